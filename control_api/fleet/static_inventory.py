"""Reads hosts from a static Ansible inventory, YAML or INI, without running any of Ansible.

Ansible's own parser would evaluate what the text says; here it is data and becomes typed columns.
"""

import configparser
from typing import Any

import yaml

from control_api.errors import BadInput


def parse_inventory(content: str, kind: str) -> list[dict[str, Any]]:
    """Return the hosts of a static Ansible inventory as fields of ``HostCreate``.

    Connection variables become typed columns; other ``ansible_*`` variables are left in place and refused later.
    Raises ``BadInput`` if the text is not an inventory.
    """
    try:
        raw = _yaml_hosts(yaml.safe_load(content), {}) if kind == "yaml" else _ini_hosts(content)
    except (yaml.YAMLError, configparser.Error, AttributeError, TypeError, RecursionError) as error:
        raise BadInput(f"This is not a static inventory in {kind.upper()}: {str(error)[:200]}", code="bad_inventory") from error
    return [_typed(name, variables) for name, variables in raw.items()]


_COLUMNS = {
    "ansible_host": "address",
    "ansible_port": "port",
    "ansible_user": "user",
    "ansible_become": "become",
    "ansible_become_exe": "become_exe",
    "ansible_python_interpreter": "python",
}


def _typed(name: str, variables: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": name, "address": name, "variables": {}}
    for key, value in variables.items():
        if key in _COLUMNS:
            fields[_COLUMNS[key]] = value
        else:
            fields["variables"][key] = value
    return fields


def _yaml_hosts(group_tree: Any, inherited: dict[str, Any]) -> dict[str, dict[str, Any]]:
    hosts: dict[str, dict[str, Any]] = {}
    for group in (group_tree or {}).values():
        variables = inherited | ((group or {}).get("vars") or {})
        for name, own in ((group or {}).get("hosts") or {}).items():
            hosts[name] = hosts.get(name, {}) | variables | (own or {})
        for name, own in _yaml_hosts((group or {}).get("children"), variables).items():
            hosts[name] = hosts.get(name, {}) | own
    return hosts


def _ini_hosts(content: str) -> dict[str, dict[str, Any]]:
    parser = configparser.RawConfigParser(allow_no_value=True, delimiters=("\0",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(content if content.lstrip().startswith("[") else "[ungrouped]\n" + content)
    hosts: dict[str, dict[str, Any]] = {}
    for section in parser.sections():
        if ":" in section:
            raise BadInput(f"[{section}] is not supported: give each host its variables, or use YAML.", code="bad_inventory")
        for line in parser.options(section):
            name, *pairs = line.split()
            variables = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            hosts[name] = hosts.get(name, {}) | {key: yaml.safe_load(value) for key, value in variables.items()}
    return hosts
