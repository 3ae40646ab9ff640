"""Reads hosts from a static Ansible inventory, YAML or INI, without running any of Ansible.

Ansible's own parser would evaluate what the text says; here it is data and becomes typed columns. What may come out is
bounded, since groups multiply: a variable of a group is one of each of its hosts.
"""

import json
from typing import Any

from pydantic import ValidationError

from control_api.errors import BadInput
from control_api.fleet.plain_yaml import Budget, NotPlain, read_scalar, read_yaml
from control_api.fleet.schemas import HostCreate

MAX_HOSTS = 1000
MAX_VALUES = 100_000
MAX_VARIABLES_BYTES = 4 << 20
_PROBLEMS_SHOWN = 100

_Hosts = dict[str, dict[str, Any]]
_COLUMNS = {
    "ansible_host": "address",
    "ansible_port": "port",
    "ansible_user": "user",
    "ansible_become": "become",
    "ansible_become_exe": "become_exe",
    "ansible_python_interpreter": "python",
}


def read_hosts(content: str, kind: str) -> list[HostCreate]:
    """Return the hosts of a static Ansible inventory.

    Connection variables become typed columns; other ``ansible_*`` variables are left in place and refused later.
    Raises ``BadInput`` naming hosts and fields if the text is not an inventory, or more than is taken at once.
    """
    budget = Budget(MAX_VALUES)
    try:
        found = _yaml_hosts(read_yaml(content, budget), budget) if kind == "yaml" else _ini_hosts(content, budget)
    except NotPlain as error:
        raise BadInput(f"This is not a static inventory in {kind.upper()}: {error}.", code="bad_inventory") from error
    if len(found) > MAX_HOSTS:
        raise BadInput(f"It holds {len(found)} hosts; at most {MAX_HOSTS} are taken at once.", code="bad_inventory")
    return _validated([_typed(name, variables) for name, variables in found.items()])


def _typed(name: str, variables: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": name, "address": name, "variables": {}}
    for key, value in variables.items():
        if key in _COLUMNS:
            fields[_COLUMNS[key]] = value
        else:
            fields["variables"][key] = value
    return fields


def _validated(entries: list[dict[str, Any]]) -> list[HostCreate]:
    hosts: list[HostCreate] = []
    problems: list[dict[str, str]] = []
    left_bytes = MAX_VARIABLES_BYTES
    for entry in entries:
        left_bytes -= len(json.dumps(entry["variables"]))
        if left_bytes < 0:
            message = f"With those of their groups, the variables of the hosts take more than {MAX_VARIABLES_BYTES} bytes."
            raise BadInput(message, code="bad_inventory", hint="Import fewer hosts at once.")
        try:
            hosts.append(HostCreate(**entry))
        except ValidationError as error:
            problems += [
                {"host": entry["name"], "field": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors()
            ]
    if problems or not hosts:
        first = "; ".join(f"{p['host']}: {p['field']}: {p['message']}" for p in problems[:3]) or "it holds no hosts"
        shown = problems[:_PROBLEMS_SHOWN]
        raise BadInput(f"The inventory cannot be imported: {first}", code="bad_inventory", details=shown)
    return hosts


def _yaml_hosts(groups: Any, budget: Budget, inherited: dict[str, Any] | None = None) -> _Hosts:
    hosts: _Hosts = {}
    for group in map(_mapping, _mapping(groups).values()):
        variables = _merged(budget, inherited, group.get("vars"))
        for name, own in _mapping(group.get("hosts")).items():
            hosts[name] = _merged(budget, hosts.get(name), variables, own)
        for name, own in _yaml_hosts(group.get("children"), budget, variables).items():
            hosts[name] = _merged(budget, hosts.get(name), own)
    return hosts


def _mapping(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise NotPlain(f"{str(value)[:60]!r} stands where names with values are expected")
    return value or {}


def _merged(budget: Budget, *parts: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for part in map(_mapping, parts):
        budget.spend(len(part))
        merged |= part
    return merged


def _ini_hosts(content: str, budget: Budget) -> _Hosts:
    hosts: _Hosts = {}
    for number, line in enumerate(map(str.strip, content.splitlines()), start=1):
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            if ":" in line or line[-1] != "]":
                raise NotPlain(f"line {number}: {line[:60]} is not supported: give each host its variables, or use YAML")
            continue
        name, *pairs = line.split()
        variables = {}
        budget.spend(len(pairs) + 1)
        for key, _, value in (pair.partition("=") for pair in pairs if "=" in pair):
            quoted = value[:1] in ("[", "{", "'", '"')
            variables[key] = read_yaml(value, budget) if quoted else read_scalar(value, f"{name[:63]}.{key[:63]}")
        hosts[name] = _merged(budget, hosts.get(name), variables)
    return hosts
