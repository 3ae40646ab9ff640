"""Upgrades of three real hosts while clients keep asking: no request fails, whatever becomes of the new release.

The tests are steps of one story and run in this order. A release that was staged and not switched is used by the next step.
"""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import openai
import pytest

from tests.hosts.lab import Host, Lab
from tests.hosts.stack import MODEL, Stack, running_stack
from tests.processes import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.hosts, pytest.mark.timeout(1500), pytest.mark.xdist_group("lab-upgrade")]

NAMES = ("gpu-1", "gpu-2", "gpu-3")
VARIABLES = {"gpu_host_require_gpu": "false", "node_service_allow_cpu": "true", "node_service_engine_threads": "1"}
CLIENTS = 8
# Always in flight, but behind the upgrade when it wants the processor, which both share here.
NICE = "mkdir -p {0} && printf '[Service]\\nNice=19\\n' > {0}/nice.conf".format("/etc/systemd/system/muster-node.service.d")


@pytest.fixture(scope="module")
def machines(lab: Lab) -> Iterator[dict[str, Host]]:
    """Three bare hosts by the names that they have in Muster."""
    suites = ("bookworm", "trixie", "trixie")
    hosts = {name: lab.boot(name, suite) for name, suite in zip(NAMES, suites, strict=True)}
    lab.wait()
    for host in hosts.values():
        host.run("sh", "-c", NICE)
    yield hosts
    lab.remove_hosts()


@pytest.fixture(scope="module")
def stack(lab: Lab, machines: dict[str, Host], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running Muster with the hosts as nodes that serve."""
    with running_stack(tmp_path_factory.mktemp("stack"), lab.gateway) as running:
        running.muster("hosts", "credential", "lab", "--ssh-key", str(lab.ssh_key))
        variables = [word for name, value in VARIABLES.items() for word in ("--var", f"{name}={value}")]
        for name, machine in machines.items():
            running.muster("hosts", "add", name, machine.address, "--user", "ops", "--credential", "lab", *variables)
        running.muster("models", "register", MODEL)
        running.muster("jobs", "run", "converge.yml", *NAMES, "--watch")
        ready = {"loaded": 1, "total": 1}
        wait_for(lambda: all(running.node(name)["ready_models"] == ready for name in NAMES), what="the model", timeout_s=120)
        yield running


class Load:
    """Clients that ask one question after the other, half of them for a stream; and what went wrong."""

    def __init__(self, stack: Stack, key: str) -> None:
        self._client = openai.OpenAI(base_url=f"{stack.router_url}/v1", api_key=key, max_retries=0, timeout=120)
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._clients: list[Future[tuple[int, list[str]]]] = []

    def __enter__(self) -> Self:
        self._clients = [self._pool.submit(self._ask_on, stream=number % 2 == 0) for number in range(CLIENTS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown()

    @property
    def answers(self) -> list[int]:
        """How many answers each client got."""
        return [client.result()[0] for client in self._clients]

    @property
    def failures(self) -> list[str]:
        """What went wrong for any of them."""
        return [failure for client in self._clients for failure in client.result()[1]]

    def _ask_on(self, *, stream: bool) -> tuple[int, list[str]]:
        answers, failures = 0, []
        while not self._stop.is_set():
            try:
                finished = self._ask_stream() if stream else self._ask()
            except openai.OpenAIError as error:
                failures.append(f"{'stream' if stream else 'answer'}: {error!r}")
                continue
            answers += 1
            if not finished:
                failures.append("an answer ended early")
        return answers, failures

    def _ask(self) -> bool:
        answer: Any = self._client.chat.completions.create(**_question())
        return bool(answer.choices[0].finish_reason)

    def _ask_stream(self) -> bool:
        chunks: Any = self._client.chat.completions.create(**_question(), stream=True)
        reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
        return any(reasons)


def _question() -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "Count to ten."}], "max_tokens": 12}


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    """An inference key."""
    return stack.muster("keys", "create", "app").stdout.strip()


def releases(machines: dict[str, Host]) -> list[str]:
    return [machine.run("readlink", "/opt/muster-node/current").strip() for machine in machines.values()]


def pids(machines: dict[str, Host]) -> list[str]:
    return [machine.run("systemctl", "show", "muster-node", "--property=MainPID").strip() for machine in machines.values()]


def same(before: list[str], after: list[str]) -> list[bool]:
    return [old == new for old, new in zip(before, after, strict=True)]


def upgrade(stack: Stack, *names: str, **variables: str) -> tuple[dict[str, Any], str]:
    """Run ``upgrade.yml`` with other options and return the job and its output."""
    options = [word for name, value in variables.items() for word in ("--var", f"{name}={value}")]
    shown = stack.muster("jobs", "run", "upgrade.yml", *names, *options, "--watch", check=False)
    job: dict[str, Any] = json.loads(stack.muster("jobs", "list", "--limit", "1", "--json").stdout)[0]
    assert job["playbook"] == "upgrade.yml", shown.stderr
    return job, shown.stdout


def holds(stack: Stack) -> list[list[str]]:
    """Return why each node is held."""
    return [[hold["reason"] for hold in stack.node(name)["holds"]] for name in NAMES]


def all_online(stack: Stack) -> bool:
    return all(stack.node(name)["state"] == "online" for name in NAMES)


def test_no_request_fails_while_three_nodes_are_upgraded(stack: Stack, machines: dict[str, Host], key: str) -> None:
    before = releases(machines)

    with Load(stack, key) as load:
        job, output = upgrade(stack, *NAMES, node_service_log_level="debug")

    assert job["status"] == "successful", output
    assert same(before, releases(machines)) == [False, False, False]
    changed = {change["task"] for change in stack.get(f"/v0/jobs/{job['id']}/changes?limit=500")["items"]}
    assert "Take the environment of another release that has the same one" in changed
    assert "Install the wheels" not in changed
    assert all_online(stack)
    assert load.failures == []
    assert min(load.answers) > 0


def test_a_broken_release_stops_at_the_first_node_and_no_request_fails(
    stack: Stack, machines: dict[str, Host], key: str
) -> None:
    before, processes = releases(machines), pids(machines)

    # An address that the host does not have: the configuration is valid, the process cannot start.
    with Load(stack, key) as load, stack.site_data(node_service_listen_host="192.0.2.1"):
        job, output = upgrade(stack, *NAMES, node_service_start_timeout_s="4")
        wait_for(lambda: all_online(stack), what="the first node to serve again", timeout_s=60)

    assert (job["status"], job["rc"]) == ("failed", 2), output
    assert "which serves again" in output
    assert releases(machines) == before
    assert same(processes, pids(machines)) == [False, True, True]
    assert holds(stack) == [[], [], []]
    assert load.failures == []


def test_a_node_that_an_operator_holds_is_asked_too_and_goes_back_when_its_answer_does_not_come(
    stack: Stack, machines: dict[str, Host]
) -> None:
    before, processes = releases(machines), pids(machines)
    stack.muster("nodes", "drain", "gpu-1", "--reason", "fan")

    # Healthy and ready, but the router does not reach it: only a question finds that out.
    with stack.site_data(node_service_listen_host="127.0.0.1"):
        job, output = upgrade(stack, "gpu-1")

    assert (job["status"], job["rc"]) == ("failed", 2), output
    assert "the last one, gpu-1, could not be reached" in " ".join(output.split())
    assert releases(machines) == before
    assert same(processes, pids(machines)) == [False, True, True]
    assert holds(stack) == [["fan"], [], []]
    stack.muster("nodes", "resume", "gpu-1")


def test_a_host_that_is_lost_in_the_second_batch_stops_the_upgrade(stack: Stack, machines: dict[str, Host]) -> None:
    before = releases(machines)

    with ThreadPoolExecutor(1) as pool:
        upgrading = pool.submit(upgrade, stack, *NAMES, node_service_log_level="warning")
        wait_for(lambda: holds(stack)[0] or upgrading.done(), what="the switch of the first node", timeout_s=300)
        machines["gpu-2"].cut()
        job, output = upgrading.result()
    machines["gpu-2"].heal()

    assert (job["status"], job["rc"]) == ("failed", 4), output
    assert (job["recap"]["gpu-2"]["unreachable"], job["recap"]["gpu-1"]["failed"]) == (1, 0), output
    assert same(before, releases(machines)) == [False, True, True]
    wait_for(lambda: all_online(stack), what="the lost node to serve again", timeout_s=60)
    assert holds(stack) == [[], [], []]


def test_the_last_ready_node_of_a_model_is_taken_away_only_by_force(stack: Stack, machines: dict[str, Host]) -> None:
    before = releases(machines)
    for name in ("gpu-1", "gpu-2"):
        stack.muster("nodes", "drain", name, "--reason", "fan")

    refused, output = upgrade(stack, "gpu-3", node_service_log_level="warning")
    after_refusal = (stack.node("gpu-3")["state"], releases(machines))
    forced, said = upgrade(stack, "gpu-3", node_service_log_level="warning", node_service_drain_force="true")

    assert refused["status"] == "failed"
    assert "last ready node" in output
    assert after_refusal == ("online", before)
    assert forced["status"] == "successful", said
    assert same(before, releases(machines)) == [True, True, False]
    assert holds(stack) == [["fan"], ["fan"], []]
