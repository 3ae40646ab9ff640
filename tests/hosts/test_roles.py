"""The roles on two real hosts, with a stand-in for the node service and a fake API: what a play does to a machine."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from control_api.wheelhouse import build_wheelhouse
from tests.ansible.fake_api import FakeApi
from tests.ansible.runs import Ansible, Run
from tests.ansible.standin_project import make_project
from tests.hosts.conftest import LabHosts
from tests.hosts.lab import Host, LabError
from tests.processes import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("lab-roles")]

SITE = "playbooks/site.yml"
DEPLOY = "playbooks/deploy_node.yml"
SECRET = "hf_not-to-be-seen"


@dataclass(frozen=True)
class Fleet:
    """The hosts, known to a fake API, and Ansible."""

    api: FakeApi
    ansible: Ansible
    hosts: list[Host]

    def play(self, *arguments: str, **variables: object) -> Run:
        """Run a playbook with extra variables."""
        return self.ansible.playbook(*arguments, "--extra-vars", json.dumps(variables))

    def on_each(self, *command: str) -> list[str]:
        """Run a command on each host."""
        return [host.run(*command).strip() for host in self.hosts]

    def release(self) -> list[str]:
        """Return the process and the release of the service on each host: what a switch changes."""
        shown = self.on_each("systemctl", "show", "muster-node", "--property=MainPID,ActiveState,ExecStart")
        return [one.split(" ; ")[0] for one in shown]


@pytest.fixture(scope="module")
def fleet(lab_hosts: LabHosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two bare hosts that the API knows."""
    directory = tmp_path_factory.mktemp("controller")
    wheelhouse = directory / "wheelhouse"
    build_wheelhouse(wheelhouse, project_dir=make_project(directory / "project"), pythons=["3.11", "3.13"])
    with FakeApi(address=lab_hosts.lab.gateway) as api:
        for host in lab_hosts.all:
            api.add_host(host.name, address=host.address, variables={"gpu_host_require_gpu": False})
        ansible = Ansible(
            api,
            directory,
            MUSTER_CACHE_DIR=str(directory),
            ANSIBLE_PRIVATE_KEY_FILE=str(lab_hosts.lab.ssh_key),
        )
        yield Fleet(api, ansible, lab_hosts.all)


@pytest.fixture(scope="module")
def provisioned(fleet: Fleet) -> Fleet:
    """The hosts with a node each."""
    run = fleet.play(SITE, node_service_hub_token=SECRET)
    assert run.rc == 0, run.output
    return fleet


def fails(call: Callable[[], object]) -> bool:
    try:
        call()
    except LabError:
        return True
    return False


def test_a_bare_host_answers_after_one_run(provisioned: Fleet) -> None:
    assert provisioned.on_each("systemctl", "is-active", "muster-node") == ["active", "active"]
    assert provisioned.on_each("systemctl", "is-enabled", "muster-node") == ["enabled", "enabled"]
    assert len(provisioned.api.nodes) == 2
    assert provisioned.api.asked("POST", "/v1/chat/completions") == 2


def test_each_host_uses_its_distributions_python(provisioned: Fleet) -> None:
    versions = [host.run("/opt/muster-node/current/venv/bin/python", "--version").split()[1] for host in provisioned.hosts]

    assert [version.rsplit(".", 1)[0] for version in versions] == ["3.11", "3.13"]
    assert fails(lambda: provisioned.hosts[1].run("ip", "route", "get", "192.0.2.1"))


def test_secrets_are_private_and_the_ticket_is_gone(provisioned: Fleet) -> None:
    data = "/var/lib/muster-node"

    assert provisioned.on_each("stat", "--format=%a %U", f"{data}/state/identity.json", f"{data}/hub-token") == [
        "600 muster\n600 muster"
    ] * len(provisioned.hosts)
    assert all(fails(lambda host=host: host.run("test", "-e", f"{data}/enrolment-ticket")) for host in provisioned.hosts)
    assert provisioned.api.tickets == {}


def test_no_secret_is_in_the_output(provisioned: Fleet) -> None:
    options = ("-vvv", "--diff", "--check", "--limit", provisioned.hosts[0].name)
    run = provisioned.play(DEPLOY, *options, node_service_hub_token="another-one")

    keys = [
        json.loads(text)["inference_key"] for text in provisioned.on_each("cat", "/var/lib/muster-node/state/identity.json")
    ]
    assert run.rc == 0, run.output
    assert [secret for secret in ("another-one", *keys) if secret in run.output] == []


def test_a_broken_configuration_is_refused_before_the_switch(provisioned: Fleet) -> None:
    before = provisioned.release()

    limit = ("--limit", provisioned.hosts[0].name)
    run = provisioned.play(DEPLOY, *limit, node_service_context=0, node_service_hub_token=SECRET)

    assert run.rc != 0
    assert "context: must be at least 1" in run.output
    assert provisioned.release() == before


def test_a_part_of_the_role_never_starts_a_release_that_is_not_all_there(provisioned: Fleet) -> None:
    before = provisioned.release()

    part = ("--limit", provisioned.hosts[0].name, "--tags", "node_service_run")
    run = provisioned.play(DEPLOY, *part, node_service_context=1024, node_service_hub_token=SECRET)

    assert run.rc != 0
    assert "Run it without tags, or with node_service_install and node_service_configure" in " ".join(run.output.split())
    assert provisioned.release() == before


def test_a_changed_option_is_switched_one_node_after_the_other(provisioned: Fleet) -> None:
    before = provisioned.release()
    asked = len(provisioned.api.requests)

    run = provisioned.play(DEPLOY, node_service_context=8192, node_service_hub_token=SECRET)

    assert run.rc == 0, run.output
    assert all(new != old for new, old in zip(provisioned.release(), before, strict=True))
    steps = [path.split("/")[-1] for _, path in provisioned.api.requests[asked:]]
    told = [step for step in steps if step in ("drain", "completions", "resume")]
    # The question comes before the resume: nobody else asks a release that has not answered yet.
    assert told == ["drain", "drain", "completions", "resume"] * 2
    nodes = [path.split("/")[3] for _, path in provisioned.api.requests[asked:] if path.endswith(("/drain", "/resume"))]
    assert nodes == [nodes[0]] * 3 + [nodes[3]] * 3
    assert nodes[0] != nodes[3]
    assert {node["admission"] for node in provisioned.api.nodes.values()} == {"open"}


def test_a_release_that_does_not_start_shows_its_journal_and_is_taken_back(provisioned: Fleet) -> None:
    before, process = provisioned.on_each("readlink", "/opt/muster-node/current"), provisioned.release()

    run = provisioned.play(
        DEPLOY,
        node_service_proxy_env={"https_proxy": "http://crash.example:3128"},
        node_service_start_timeout_s=3,
        node_service_hub_token=SECRET,
    )

    assert run.rc != 0
    assert "cannot start: told to crash" in run.output
    assert "which serves again" in run.output
    assert provisioned.on_each("readlink", "/opt/muster-node/current") == before
    assert provisioned.on_each("systemctl", "is-active", "muster-node") == ["active", "active"]
    assert sum(new != old for new, old in zip(provisioned.release(), process, strict=True)) == 1
    assert [node["holds"] for node in provisioned.api.nodes.values()] == [[], []]


def test_a_release_that_gives_no_answer_is_taken_back(provisioned: Fleet) -> None:
    before = provisioned.on_each("readlink", "/opt/muster-node/current")
    provisioned.api.answer = ""
    try:
        limit = ("--limit", provisioned.hosts[0].name)
        run = provisioned.play(DEPLOY, *limit, node_service_slots=7, node_service_hub_token=SECRET)
    finally:
        provisioned.api.answer = "Hello."

    assert run.rc != 0
    assert "the router's answer is empty" in run.output
    assert provisioned.on_each("readlink", "/opt/muster-node/current") == before
    assert [node["holds"] for node in provisioned.api.nodes.values()] == [[], []]


def test_the_hold_of_an_operator_outlives_the_switch_of_its_node(provisioned: Fleet) -> None:
    operators = {"holder": "user:ops", "reason": "smells of smoke"}
    held, _ = provisioned.api.nodes.values()
    held |= {"holds": [operators], "admission": "drained", "state": "drained"}
    asked = provisioned.api.asked("POST", "/v1/chat/completions")
    try:
        run = provisioned.play(DEPLOY, "--limit", held["name"], node_service_slots=5, node_service_hub_token=SECRET)

        assert run.rc == 0, run.output
        assert (held["holds"], held["admission"]) == ([operators], "drained")
        assert provisioned.api.asked("POST", "/v1/chat/completions") == asked + 1
    finally:
        held |= {"holds": [], "admission": "open", "state": "online"}


def test_a_host_lost_in_the_switch_stops_the_play(provisioned: Fleet) -> None:
    before = provisioned.release()
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(_cut_when_drained, provisioned)
        run = provisioned.play(DEPLOY, node_service_slots=6, node_service_hub_token=SECRET)
        lost.result().heal()

    assert run.rc != 0
    assert "unreachable=1" in run.output
    assert sum(new != old for new, old in zip(provisioned.release(), before, strict=True)) <= 1
    for node in provisioned.api.nodes.values():
        node |= {"holds": [], "admission": "open", "state": "online"}


def _cut_when_drained(fleet: Fleet) -> Host:
    """Cut a host off as soon as its node is drained, and return it."""
    held = wait_for(lambda: [n for n in fleet.api.nodes.values() if n["holds"]], what="a node to be drained", timeout_s=120)
    host = next(host for host in fleet.hosts if host.name == held[0]["name"])
    host.cut()
    return host


def test_the_next_run_after_failed_switches_goes_through(provisioned: Fleet) -> None:
    refused = provisioned.play(DEPLOY, node_service_hub_token=SECRET)
    run = provisioned.play(DEPLOY, node_service_hub_token=SECRET, muster_break_lock=True)

    assert "this host is being changed by run" in refused.output
    assert run.rc == 0, run.output
    assert provisioned.on_each("systemctl", "is-active", "muster-node") == ["active", "active"]
    assert {node["admission"] for node in provisioned.api.nodes.values()} == {"open"}


def test_what_was_changed_by_hand_is_put_right(provisioned: Fleet) -> None:
    unit, package = "/etc/systemd/system/muster-node.service", "/opt/muster-node/current/venv/lib/python3*/site-packages"
    provisioned.hosts[0].run("sh", "-c", f"echo '# by hand' >> {unit}")
    provisioned.hosts[1].run("sh", "-c", f"echo '# by hand' >> $(echo {package}/muster_node.py)")

    parts = ("--tags", "node_service_install,node_service_configure")
    run = provisioned.play(DEPLOY, *parts, node_service_hub_token=SECRET)

    assert run.rc == 0, run.output
    assert all(count > 0 for name, count in run.changed().items() if name != "localhost")
    assert fails(lambda: provisioned.hosts[0].run("grep", "by hand", unit))
    assert fails(lambda: provisioned.hosts[1].run("sh", "-c", f"grep 'by hand' {package}/muster_node.py"))


def test_a_node_that_hangs_is_repaired(provisioned: Fleet) -> None:
    before = provisioned.release()
    provisioned.hosts[0].run("systemctl", "kill", "--signal=STOP", "muster-node")

    run = provisioned.play("playbooks/repair.yml", "--limit", provisioned.hosts[0].name)

    assert run.rc == 0, run.output
    assert "Started muster-node.service" in run.output
    assert [new == old for new, old in zip(provisioned.release(), before, strict=True)] == [False, True]
    assert provisioned.on_each("systemctl", "is-active", "muster-node") == ["active", "active"]
    assert [node["holds"] for node in provisioned.api.nodes.values()] == [[], []]


def test_a_host_that_another_run_changes_is_left_alone(provisioned: Fleet) -> None:
    host = provisioned.hosts[0]
    assert list(json.loads(host.run("cat", "/run/muster/job.lock"))) == ["numbers"]
    other = {"numbers": {"job": 7}, "holder": "job 7", "kind": "job", "expires_at": 4_000_000_000}
    host.run("sh", "-c", f"echo '{json.dumps(other)}' > /run/muster/job.lock")
    try:
        run = provisioned.play("playbooks/provision.yml", "--limit", host.name)

        assert run.rc == 2
        assert "this host is being changed by job 7" in run.output
        assert json.loads(host.run("cat", "/run/muster/job.lock")) == other
        job = {"MUSTER_JOB_ID": "8", "MUSTER_JOB_FENCE": "8"}
        assert provisioned.ansible.playbook("playbooks/provision.yml", "--limit", host.name, **job).rc == 0
    finally:
        host.run("rm", "/run/muster/job.lock")


def test_a_host_that_refuses_leaves_the_others_alone(provisioned: Fleet) -> None:
    api = provisioned.api
    lost = api.add_host("lost", address="127.0.0.1", port=1, variables={"gpu_host_require_gpu": False})
    try:
        run = provisioned.play("playbooks/provision.yml")
    finally:
        del api.hosts[lost["id"]]

    assert run.rc != 0
    assert "lost" in run.output
    assert "Connection refused" in run.output
    assert run.changed() == {"localhost": 0, "lost": 0} | {host.name: 0 for host in provisioned.hosts}


def test_a_decommissioned_host_has_no_service_and_on_request_no_files(provisioned: Fleet) -> None:
    kept, cleaned = provisioned.hosts

    first = provisioned.play("playbooks/decommission.yml", "--limit", kept.name)
    second = provisioned.play("playbooks/decommission.yml", "--limit", cleaned.name, node_service_remove_files=True)
    again = provisioned.play("playbooks/decommission.yml", "--limit", cleaned.name, node_service_remove_files=True)

    assert (first.rc, second.rc, again.rc) == (0, 0, 0), first.output + second.output + again.output
    assert again.changed()[cleaned.name] == 0
    assert all(fails(lambda host=host: host.run("systemctl", "cat", "muster-node")) for host in provisioned.hosts)
    assert {node["admission"] for node in provisioned.api.nodes.values()} == {"drained"}
    assert "identity.json" in kept.run("ls", "/var/lib/muster-node/state")
    assert fails(lambda: cleaned.run("ls", "-d", "/opt/muster-node"))
    assert fails(lambda: cleaned.run("ls", "-d", "/var/lib/muster-node"))
