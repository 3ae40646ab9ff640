"""What a scenario needs beside its hosts: the lab, a fake control API that knows the hosts, and wheelhouses."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from control_api.wheelhouse import build_wheelhouse
from tests.ansible.fake_api import KEY, FakeApi
from tests.ansible.standin_project import make_project
from tests.hosts.conftest import lab as lab
from tests.hosts.lab import Lab
from tests.processes import PROJECT

SCENARIOS = Path(__file__).parent
TIMEOUT_S = 900


@dataclass(frozen=True)
class Molecule:
    """The command, as a developer runs it."""

    lab: Lab
    wheelhouses: Path

    def test(self, scenario: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run all steps of a scenario; the hosts are the platforms of its ``molecule.yml``."""
        with FakeApi(address=self.lab.gateway) as api, TemporaryDirectory(prefix="ssh-") as sockets:
            octets = self._add_hosts(api, scenario)
            environment = {
                # A socket's path may have a hundred characters, fewer than a folder of pytest's has.
                "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "HOME": str(folder),
                "LANG": "C.UTF-8",
                "MOLECULE_GLOB": "tests/molecule/*/molecule.yml",
                "MOLECULE_EPHEMERAL_DIRECTORY": str(folder / "molecule"),
                "MUSTER_API_URL": api.url,
                "MUSTER_API_KEY": KEY,
                "MUSTER_KNOWN_HOSTS_DIR": str(folder / "known_hosts"),
                "MUSTER_CACHE_DIR": str(self.wheelhouses / "0.0.2"),
                "OLD_WHEELHOUSE_DIR": str(self.wheelhouses / "0.0.1" / "wheelhouse"),
                "ANSIBLE_PRIVATE_KEY_FILE": str(self.lab.ssh_key),
                **self.lab.environment,
                "LAB_NETWORK": self.lab.gateway.rsplit(".", 1)[0],
            } | octets
            command = ["molecule", "--base-config", str(SCENARIOS / "config.yml"), "test", "--scenario-name", scenario]
            return subprocess.run(
                command, cwd=PROJECT, env=environment, text=True, timeout=TIMEOUT_S, check=False,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def _add_hosts(self, api: FakeApi, scenario: str) -> dict[str, str]:
        """Make the hosts of a scenario known, and return what its platforms are to be called."""
        named = {}
        platforms = yaml.safe_load((SCENARIOS / scenario / "molecule.yml").read_text())["platforms"]
        for number, platform in enumerate(platforms, start=1):
            host = self.lab.reserve(f"molecule{number}")
            named |= {f"LAB_HOST_{number}": host.name, f"LAB_OCTET_{number}": host.octet}
            known = {"tags": platform.get("tags", []), "variables": platform.get("variables", {})}
            api.add_host(host.name, address=host.address, **known)
        return named


@pytest.fixture(scope="session")
def wheelhouses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for the node service in two versions."""
    folder = tmp_path_factory.mktemp("wheelhouses")
    for version in ("0.0.1", "0.0.2"):
        project = make_project(folder / f"project-{version}")
        described = project / "node_service" / "pyproject.toml"
        described.write_text(described.read_text().replace("0.0.1", version))
        build_wheelhouse(folder / version / "wheelhouse", project_dir=project, pythons=["3.11", "3.13"])
    return folder


@pytest.fixture
def molecule(lab: Lab, wheelhouses: Path) -> Iterator[Molecule]:
    """Molecule with hosts that are removed afterwards, whatever becomes of the scenario."""
    lab.boot("molecule0", "trixie")  # this machine has its address in the lab only while there is a host
    yield Molecule(lab, wheelhouses)
    lab.remove_hosts()
