# SPDX-License-Identifier: GPL-3.0-or-later
# Imports ansible-core, hence the licence of this file. Needs nothing but ansible-core and the standard library.
"""Inventory plugin: the hosts of a Muster control plane."""

import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from ansible.errors import AnsibleParserError
from ansible.module_utils.urls import open_url
from ansible.plugins.inventory import BaseInventoryPlugin, to_safe_group_name

DOCUMENTATION = r"""
name: muster
short_description: Hosts of a Muster control plane
description:
  - Reads C(GET /v0/inventory) of the control API, or the snapshot of it that a job was given.
  - Values stay untrusted, so a template in a host's name, tag or variable is never evaluated.
  - Leaves out a host that cannot be said to Ansible, and warns, so that the others can be reached. A job fails instead, since
    all of its hosts were meant.
  - Fails rather than give an empty inventory, since a play over no host would count as a success.
options:
  plugin:
    description: Marks a file as a configuration of this plugin.
    required: true
    choices: [muster]
  api_url:
    description: Address of the control API, with scheme and port.
    env: [{name: MUSTER_API_URL}]
    default: http://127.0.0.1:8080
  token_file:
    description: File with the bearer token. Wins over O(api_key).
    type: path
    env: [{name: MUSTER_TOKEN_FILE}]
  api_key:
    description: API key with the scope C(read) or more.
    env: [{name: MUSTER_API_KEY}]
  snapshot:
    description: JSON file in the shape of C(GET /v0/inventory). When set, the network is not used.
    type: path
    env: [{name: MUSTER_INVENTORY_SNAPSHOT}]
  known_hosts_dir:
    description: Directory with one known-hosts file for each host, named by the host's id.
    type: path
    env: [{name: MUSTER_KNOWN_HOSTS_DIR}]
    default: ~/.cache/muster/known_hosts
  ca_bundle:
    description: File with the certificate authorities to trust for an https API.
    type: path
    env: [{name: MUSTER_CA_BUNDLE}]
  timeout_s:
    description: How long to wait for the API, in seconds.
    type: int
    default: 15
"""

EXAMPLES = r"""
# inventory/muster.yml
plugin: muster
api_url: https://muster.example.org:8080
"""

HOST_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")
ADDRESS = re.compile(r"[0-9A-Za-z:_][0-9A-Za-z._:-]{0,254}")
USER = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.@\\-]{0,63}")
JUMP_HOST = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.@:,\[\]-]{0,254}")
EXECUTABLE = re.compile(r"[0-9A-Za-z_/][0-9A-Za-z_./+-]{0,254}")
KEY_PART = re.compile(r"[0-9A-Za-z@.+/=-]+")
# `_`-names are private to the roles; `ansible_`-names configure Ansible itself, down to commands on the controller.
VARIABLE = re.compile(r"(?!ansible_)[a-z][a-z0-9_]*")
# Ansible takes these for the machine that it runs on, or for groups.
RESERVED = re.compile(
    r"localhost|127\.0\.0\.1|::1|all|ungrouped|gpu_hosts|control_plane|gpu_host_switch|node_service_switch|(?:state|tag)_.*"
)


class HostRefused(Exception):
    """A host that cannot be said to Ansible, and why."""


class InventoryModule(BaseInventoryPlugin):
    """Fill the inventory from the control API or from a job's snapshot."""

    NAME = "muster"

    def verify_file(self, path: str) -> bool:
        """Accept files called muster.yml or muster.yaml."""
        return super().verify_file(path) and path.endswith(("muster.yml", "muster.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Read the hosts and add them; raise AnsibleParserError when that is not possible."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        snapshot = self.get_option("snapshot")
        source = snapshot or f"{self.get_option('api_url').rstrip('/')}/v0/inventory"
        document = self._decode(self._read_snapshot(snapshot) if snapshot else self._fetch(source), source)
        refused = [why for host in document["hosts"] if (why := self._add_or_refuse(host, document))]
        if refused and (snapshot or len(refused) == len(document["hosts"])):
            raise AnsibleParserError("; ".join(refused[:3]))
        for why in refused:
            self.display.warning(f"Left out: {why}")

    def _add_or_refuse(self, host: dict[str, Any], document: dict[str, Any]) -> str | None:
        """Add a host, all of it or nothing; give back why it cannot be added."""
        try:
            name, groups, variables = host["name"], self._groups(host), self._variables(host, document)
        except HostRefused as error:
            return str(error)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            return f"a host is not said in a way that this plugin understands: {type(error).__name__}: {error}"
        for group in groups:
            self.inventory.add_host(name, group=self.inventory.add_group(group))
        for key, value in variables.items():
            self.inventory.set_variable(name, key, value)
        return None

    def _read_snapshot(self, path: str) -> bytes:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise AnsibleParserError(f"cannot read the inventory snapshot: {error}") from error

    def _fetch(self, url: str) -> bytes:
        headers = {"Authorization": f"Bearer {self._token()}", "Accept": "application/json"}
        try:
            response = open_url(
                url, headers=headers, timeout=self.get_option("timeout_s"), ca_path=self.get_option("ca_bundle"),
                follow_redirects="none", use_netrc=False,
            )  # fmt: skip
            return response.read()
        except HTTPError as error:
            hint = {401: ": the token or API key is not valid", 403: ": the key needs the scope 'read'"}
            raise AnsibleParserError(f"{url} answered {error.code}{hint.get(error.code, '')}") from error
        except (URLError, OSError, ValueError) as error:
            raise AnsibleParserError(f"cannot reach the control API at {url}: {error}") from error

    def _token(self) -> str:
        token_file, api_key = self.get_option("token_file"), self.get_option("api_key")
        try:
            token = Path(token_file).read_text().strip() if token_file else api_key
        except OSError as error:
            raise AnsibleParserError(f"cannot read the token file: {error}") from error
        if not token:
            raise AnsibleParserError("the control API needs a key: set MUSTER_API_KEY or MUSTER_TOKEN_FILE")
        return token

    def _decode(self, body: bytes, source: str) -> dict[str, Any]:
        try:
            document = json.loads(body)
        except ValueError as error:
            raise AnsibleParserError(f"{source} is not JSON: {error}") from error
        if not isinstance(document, dict) or document.get("version") != 1:
            raise AnsibleParserError(f"{source} is not a version 1 inventory: this checkout does not fit the API")
        if not isinstance(hosts := document.get("hosts"), list) or not hosts:
            raise AnsibleParserError(f"{source} holds no host: add one with `muster hosts add`, or accept one that waits")
        return document

    def _groups(self, host: dict[str, Any]) -> list[str]:
        if not isinstance(host["name"], str) or not host["name"] or RESERVED.fullmatch(host["name"]):
            raise HostRefused(f"host {host['name']!r} has a name that is not allowed")
        return [
            to_safe_group_name(group)
            for group in ("gpu_hosts", f"state_{host['state']}", *(f"tag_{tag}" for tag in host["tags"]))
        ]

    def _variables(self, host: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
        return {
            **self._own_variables(host),
            **self._connection(host),
            "muster_host_id": host["id"],
            "muster_node_id": host["node_id"],
            "muster_tags": host["tags"],
            "muster_site_addresses": self._site_addresses(host, document["sites"]),
            "muster_api_url": document["api_url"],
            "muster_router_url": document["router_url"],
        }

    def _site_addresses(self, host: dict[str, Any], sites: dict[str, list[str]]) -> list[str]:
        """Of all hosts at the host's site: a job's inventory has those only that the job touches."""
        site = min((tag for tag in host["tags"] if tag.startswith("site:")), default="")
        return [address for address in sites.get(site, []) if isinstance(address, str) and ADDRESS.fullmatch(address)]

    def _own_variables(self, host: dict[str, Any]) -> dict[str, Any]:
        variables = host["variables"]
        for key in variables:
            _require(VARIABLE, key, host, "variable name")
        return variables

    def _connection(self, host: dict[str, Any]) -> dict[str, Any]:
        variables = {
            "ansible_host": _require(ADDRESS, host["address"], host, "address"),
            "ansible_become": bool(host["become"]),
        }
        if host["become_exe"]:
            variables["ansible_become_exe"] = _require(EXECUTABLE, host["become_exe"], host, "become_exe")
        if host["connection"] == "local":
            return variables | {
                "ansible_connection": "local",
                "ansible_python_interpreter": host["python"] or sys.executable,
            }
        if host["python"]:
            variables["ansible_python_interpreter"] = _require(EXECUTABLE, host["python"], host, "python")
        if host["user"]:
            variables["ansible_user"] = _require(USER, host["user"], host, "user")
        return variables | {"ansible_port": int(host["port"]), "ansible_ssh_common_args": self._ssh_arguments(host)}

    def _ssh_arguments(self, host: dict[str, Any]) -> str:
        """Pin the host's key: required once it is known, taken at first contact otherwise."""
        host_id = _require(HOST_ID, host["id"], host, "id")
        directory = Path(self.get_option("known_hosts_dir")).expanduser()
        known_hosts = directory / host_id
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if host["host_key"]:
            _write_known_hosts(known_hosts, host)
        options = {
            "HostKeyAlias": host_id,
            "UserKnownHostsFile": str(known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes" if host["host_key"] else "accept-new",
        }
        if host["jump_host"]:
            options["ProxyJump"] = _require(JUMP_HOST, host["jump_host"], host, "jump host")
        return " ".join(f"-o {shlex.quote(f'{key}={value}')}" for key, value in options.items())


def _require(pattern: re.Pattern[str], value: Any, host: dict[str, Any], what: str) -> str:
    """Give `value` back if all of it matches, since what is checked here ends in a command line."""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise HostRefused(f"host {host['name']!r} has an {what} that is not allowed: {value!r}")
    return value


def _write_known_hosts(path: Path, host: dict[str, Any]) -> None:
    """Replace the file in one step: another run may be reading it."""
    parts = [_require(KEY_PART, host["host_key"][part], host, "host key") for part in ("type", "key")]
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(f"{host['id']} {' '.join(parts)}\n")
    fresh.chmod(0o600)
    fresh.replace(path)
