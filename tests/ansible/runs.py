"""Runs Ansible's commands as a shell or CI does: from the checkout, with nothing of the tests' own environment."""

import base64
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.ansible.fake_api import KEY, FakeApi

ROOT = Path(__file__).parents[2]
INVENTORY = ROOT / "inventory" / "muster.yml"
TIMEOUT_S = 600


@dataclass(frozen=True)
class Run:
    """What a command said and how it ended."""

    rc: int
    output: str

    def changed(self) -> dict[str, int]:
        """Return the number of changes of each host, from the recap."""
        return {name: int(count) for name, count in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", self.output, re.MULTILINE)}


class Ansible:
    """Ansible's commands against one fake API."""

    def __init__(self, api: FakeApi, directory: Path, **environment: str) -> None:
        self.api = api
        self.directory = directory
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "MUSTER_API_URL": api.url,
            "MUSTER_API_KEY": KEY,
            "MUSTER_KNOWN_HOSTS_DIR": str(directory / "known_hosts"),
        } | environment

    def run(self, *command: str, **environment: str) -> Run:
        """Run a command; an environment variable given as an empty string is unset."""
        variables = {name: value for name, value in (self.environment | environment).items() if value}
        done = subprocess.run(
            command, cwd=ROOT, env=variables, text=True, timeout=TIMEOUT_S, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return Run(done.returncode, done.stdout)

    def inventory(self, **environment: str) -> Run:
        """List the inventory of the API."""
        return self.run("ansible-inventory", "-i", str(INVENTORY), "--list", **environment)

    def playbook(self, *arguments: str, **environment: str) -> Run:
        """Run a playbook over the inventory of the API."""
        return self.run("ansible-playbook", "-i", str(INVENTORY), *arguments, **environment)

    def tasks(self, *tasks: dict[str, Any], arguments: tuple[str, ...] = (), **environment: str) -> tuple[Run, list[Any]]:
        """Run tasks on this machine, all of them even when one fails; return the run and each task's result."""
        steps = [{**task, "register": f"r{number}", "ignore_errors": True} for number, task in enumerate(tasks)]
        results = ", ".join(f"r{number}" for number in range(len(tasks)))
        # In letters that no output wraps. A task that writes a file would run two modules.
        steps.append({"ansible.builtin.debug": {"msg": f"RESULTS:{{{{ [{results}] | to_json | b64encode }}}}"}})
        playbook = self.directory / "tasks.yml"
        playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": steps}]))
        run = self.run("ansible-playbook", str(playbook), *arguments, **environment)
        found = re.search(r"RESULTS:([\w+/=]+)", run.output)
        assert found, run.output
        return run, json.loads(base64.b64decode(found[1]))
