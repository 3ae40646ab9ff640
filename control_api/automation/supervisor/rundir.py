"""The directory of one attempt: private, on tmpfs, made afresh, removed at the end. All that is secret in files is here."""

import os
from pathlib import Path
from typing import Any

import yaml

from control_api.automation.order import RunOrder

# ssh adds up to 17 characters to the path of a control socket, and a socket's path ends at 107.
_MAX_SOCKET_DIR = 78

_ANSIBLE = Path(__file__).with_name("ansible")
REAP_PLAYBOOK = _ANSIBLE / "reap.yml"


class _Unsafe(str):
    """A string that is never a template, whatever it looks like."""


class _Dumper(yaml.SafeDumper):
    """Writes YAML for Ansible's loader."""


_Dumper.add_representer(_Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text), style='"'))


def _literal(value: Any) -> Any:
    """Return a value in which every string is marked as data."""
    if isinstance(value, str):
        return _Unsafe(value)
    if isinstance(value, dict):
        return {_Unsafe(key): _literal(part) for key, part in value.items()}
    return [_literal(part) for part in value] if isinstance(value, list) else value


class RunDirectory:
    """Files of one attempt, and the environment in which Ansible finds them."""

    def __init__(self, order: RunOrder) -> None:
        self._order = order
        self.path = order.run_dir
        self.known_hosts = self.path / "known_hosts"
        self.agent_socket = self.path / "agent"
        self._site = self.path / "site"
        self._control = self.path / "cp"

    def create(self) -> None:
        """Make the directory and its files. Raises ``FileExistsError`` if the attempt has one already."""
        order = self._order
        self.path.mkdir(mode=0o700)
        for directory in (self.known_hosts, self._site, self._control):
            directory.mkdir(mode=0o700)
        self._write("token", order.secrets.token)
        self._write("inventory.json", order.inventory.model_dump_json())
        for name in ("group_vars", "host_vars"):
            if order.site_dir and (order.site_dir / name).is_dir():
                (self._site / name).symlink_to(order.site_dir / name)

    def write_connections(self, public_keys: dict[str, str]) -> None:
        """Write what each host is logged in to with, as a second inventory. No caller sets these variables of Ansible's own.

        Parameters
        ----------
        public_keys: by credential id. ssh picks the matching private key in the agent, rather than try them all.
        """
        hosts: dict[str, dict[str, Any]] = {host.name: {} for host in self._order.inventory.hosts}
        for credential_id, line in public_keys.items():
            self._write(f"{credential_id}.pub", line)
        for name, credential_id in self._order.secrets.credential_of.items():
            if credential_id in public_keys:
                hosts[name]["ansible_ssh_private_key_file"] = _Unsafe(self.path / f"{credential_id}.pub")
        for name, options in self._order.not_on_controller.items():
            hosts[name]["muster_not_on_controller"] = options
        for name, password in self._order.secrets.become_passwords.items():
            hosts[name]["ansible_become_password"] = _Unsafe(password)
        shell = {"ansible_shell_type": "muster.runtime.marked_sh"}
        self._write("site/connections.yml", _dump({"all": {"hosts": hosts, "vars": shell}}))

    def private_data(self, name: str, extra_vars: dict[str, Any]) -> Path:
        """Make a fresh private data directory for ansible-runner, with the variables as data in a file."""
        directory = self.path / name
        (directory / "env").mkdir(mode=0o700, parents=True)
        self._write(f"{name}/env/extravars", _dump(_literal(extra_vars)))
        return directory

    @property
    def inventories(self) -> list[str]:
        """The project's plugin, which reads the snapshot, and the connections, beside which the site's data lie."""
        return [str(self._order.project_dir / "inventory" / "muster.yml"), str(self._site / "connections.yml")]

    def environment(self, job_id: str) -> dict[str, str]:
        """Return what Ansible's environment holds beside the supervisor's own, which is clean.

        Parameters
        ----------
        job_id: the mark that every process of the run carries.
        """
        order = self._order
        environment = {
            "ANSIBLE_CONFIG": str(order.project_dir / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.path / "home"),
            "ANSIBLE_COLLECTIONS_PATH": f"{_ANSIBLE}:/usr/share/ansible/collections",
            "ANSIBLE_HOST_KEY_CHECKING": "True",
            "ANSIBLE_CACHE_PLUGIN": "memory",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACKS_ENABLED": "muster.runtime.tied",
            "MUSTER_SUPERVISOR_PID": str(os.getpid()),
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
            "MUSTER_JOB_ID": job_id,
            "MUSTER_JOB_FENCE": str(order.fence),
            "MUSTER_TOKEN_FILE": str(self.path / "token"),
            "MUSTER_API_URL": order.api_url,
            "MUSTER_INVENTORY_SNAPSHOT": str(self.path / "inventory.json"),
            "MUSTER_KNOWN_HOSTS_DIR": str(self.known_hosts),
            "MUSTER_STATE_DIR": str(order.state_dir),
            "MUSTER_CACHE_DIR": str(order.cache_dir),
        }
        if len(str(self._control)) <= _MAX_SOCKET_DIR:
            environment["ANSIBLE_SSH_CONTROL_PATH_DIR"] = str(self._control)
        if order.task_timeout_s:
            environment["ANSIBLE_TASK_TIMEOUT"] = str(order.task_timeout_s)
        if order.secrets.ssh_keys:
            environment["SSH_AUTH_SOCK"] = str(self.agent_socket)
        if order.site_dir and (order.site_dir / "vault_password").is_file():
            environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(order.site_dir / "vault_password")
        return environment

    def new_host_keys(self) -> dict[str, str]:
        """Return ``type base64`` by host id for the hosts that were met for the first time."""
        unpinned = [host.id for host in self._order.inventory.hosts if not host.host_key]
        found = {}
        for host_id in unpinned:
            path = self.known_hosts / host_id
            fields = path.read_text().split() if path.is_file() else []
            if len(fields) >= 3:
                found[host_id] = f"{fields[1]} {fields[2]}"
        return found

    def _write(self, name: str, text: str) -> None:
        descriptor = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)


def _dump(document: Any) -> str:
    return yaml.dump(document, Dumper=_Dumper, allow_unicode=True, sort_keys=False)
