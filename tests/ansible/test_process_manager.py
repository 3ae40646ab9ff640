"""This machine as its own host, without root, SSH or systemd: the play describes a process, `muster up` runs it."""

import json
import platform
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
import yaml

from control_api.kit.tasks import owned_task
from control_api.up.services import Services
from control_api.wheelhouse import build_wheelhouse
from tests.ansible.fake_api import KEY, FakeApi
from tests.ansible.runs import Ansible, Run
from tests.ansible.standin_project import make_project
from tests.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Machine:
    """This machine with services running, a wheelhouse and Ansible."""

    api: FakeApi
    ansible: Ansible
    state_dir: Path
    variables: dict[str, Any]

    async def play(self, *arguments: str, **environment: str) -> Run:
        return await anyio.to_thread.run_sync(lambda: self.ansible.playbook(*arguments, **environment))

    @property
    def home(self) -> Path:
        return self.state_dir / "muster-node"

    def service(self) -> dict[str, Any]:
        return json.loads((self.state_dir / "services" / "muster-node.json").read_text())


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheelhouse")
    project = make_project(tmp_path_factory.mktemp("checkout") / "project")
    build_wheelhouse(directory / "wheelhouse", project_dir=project, pythons=[PYTHON], arches=[platform.machine()])
    return directory


@pytest.fixture
async def machine(api: FakeApi, tmp_path: Path, wheelhouse: Path) -> AsyncIterator[Machine]:
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    environment = {"MUSTER_STATE_DIR": str(state_dir), "MUSTER_CACHE_DIR": str(wheelhouse)}
    variables = {
        "muster_privileged": False, "gpu_host_require_gpu": False, "gpu_host_data_dir": "/",
        "node_service_port": free_port(), "node_service_listen_host": "127.0.0.1",
    }  # fmt: skip
    async with owned_task(Services(state_dir / "services", state_dir / "logs").run(), name="services"):
        yield Machine(api, Ansible(api, tmp_path, **environment), state_dir, variables)


@pytest.mark.timeout(600)
async def test_the_play_describes_what_muster_up_runs(machine: Machine) -> None:
    machine.api.add_host("local", address="127.0.0.1", connection="local", become=False, variables=machine.variables)

    bare = await machine.play("playbooks/site.yml", "--check")
    first = await machine.play("playbooks/site.yml")
    second = await machine.play("playbooks/site.yml")

    assert (bare.rc, first.rc, second.rc) == (0, 0, 0), bare.output + first.output + second.output
    assert second.changed() == {"local": 0, "localhost": 0}
    service = machine.service()
    assert service["command"][0] == str(Path(machine.home, "current").resolve() / "venv" / "bin" / "muster-node")
    assert (service["name"], service["state"]) == ("muster-node", "started")
    assert (machine.home / "data" / "state" / "identity.json").stat().st_mode & 0o777 == 0o600
    assert len(machine.api.nodes) == 1

    await _a_changed_option_restarts_the_process(machine)


async def _a_changed_option_restarts_the_process(machine: Machine) -> None:
    machine.api.requests.clear()
    before = machine.service()["command"]

    run = await machine.play("playbooks/deploy_node.yml", "--extra-vars", '{"node_service_context": 8192}')

    # The role compares what answers before and after, so a play that ends well has seen the new process.
    assert run.rc == 0, run.output
    assert machine.service()["command"] != before
    steps = [path.rsplit("/", 1)[1] for _, path in machine.api.requests]
    # The second drain: from the start of the new release on, the hold outlives a job that ends before the release was tried.
    assert [step for step in steps if step in ("drain", "completions", "resume")] == ["drain", "drain", "completions", "resume"]


async def test_the_static_way_enrols_with_a_token(machine: Machine, tmp_path: Path) -> None:
    """No host id, so no ticket: the site's token is used, and the node is found by the id that it was given."""
    machine.api.tickets["site-token"] = machine.api.add_host("unknown-to-the-inventory")["id"]
    inventory = tmp_path / "my-site.yml"
    connection = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_host": "127.0.0.1"}
    variables = machine.variables | {"muster_api_url": machine.api.url, "node_service_enrolment_token": "site-token"}
    inventory.write_text(yaml.safe_dump({"gpu_hosts": {"hosts": {"gpu-01": connection}, "vars": variables}}))

    def play() -> Run:
        return machine.ansible.run("ansible-playbook", "-i", str(inventory), "playbooks/site.yml")

    runs = [await anyio.to_thread.run_sync(play) for _ in range(2)]

    assert [run.rc for run in runs] == [0, 0], runs[0].output
    assert runs[1].changed() == {"gpu-01": 0, "localhost": 0}
    assert [node["name"] for node in machine.api.nodes.values()] == ["gpu-01"]
    assert KEY not in runs[0].output


async def test_a_missing_wheelhouse_says_the_command(machine: Machine) -> None:
    machine.api.add_host("local", address="127.0.0.1", connection="local", become=False, variables=machine.variables)

    run = await machine.play("playbooks/deploy_node.yml", MUSTER_CACHE_DIR=str(machine.state_dir))

    assert run.rc != 0
    assert f"muster wheelhouse build --python {PYTHON}" in " ".join(run.output.split())
