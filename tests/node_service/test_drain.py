"""Draining: by the control API's wish, and on SIGTERM."""

import threading
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.node_service.control_plane import ControlPlane
from tests.node_service.process import NodeProcess, alive, descendants
from tests.processes import wait_for

type Spec = Callable[..., dict[str, Any]]


@pytest.fixture
def slow_node(make_node: Callable[..., NodeProcess], control: ControlPlane, spec: Spec) -> NodeProcess:
    """A node with a model that takes seconds for a long answer."""
    node = make_node()
    control.assign(spec("tiny:slow", "slow.gguf", context=1024))
    wait_for(lambda: control.state("tiny:slow") == "ready", "ready")
    return node


def start_request(node: NodeProcess, **fields: Any) -> tuple[threading.Thread, list[httpx2.Response]]:
    """Begin a request of a second or two and wait until it is under way."""
    answers: list[httpx2.Response] = []
    thread = threading.Thread(target=lambda: answers.append(node.chat("tiny:slow", max_tokens=150, **fields)))
    thread.start()
    wait_for(lambda: node.status()["in_flight"] == 1, "the request under way")
    return thread, answers


def test_drained_node_ends_what_it_has_and_takes_nothing_new(slow_node: NodeProcess, control: ControlPlane) -> None:
    thread, answers = start_request(slow_node)

    control.admission = "drained"

    wait_for(lambda: slow_node.status()["draining"], "draining")
    refused = slow_node.chat("tiny:slow")
    thread.join(30)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "node_draining")
    assert "retry-after" in refused.headers
    assert answers[0].json()["usage"]["completion_tokens"] == 150
    control.admission = "open"
    wait_for(lambda: slow_node.chat("tiny:slow").is_success, "open again")


def test_drained_node_answers_what_is_pinned_to_it(slow_node: NodeProcess, control: ControlPlane) -> None:
    control.admission = "drained"
    wait_for(lambda: slow_node.status()["draining"], "draining")
    body = {"model": "tiny:slow", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}

    pinned = slow_node.post("/v1/chat/completions", body, headers={"x-muster-pin-node": control.node_id})
    other = slow_node.post("/v1/chat/completions", body, headers={"x-muster-pin-node": "another"})

    assert pinned.status_code == 200
    assert other.status_code == 503


@pytest.mark.parametrize("stream", [False, True])
def test_sigterm_lets_requests_end(slow_node: NodeProcess, stream: bool) -> None:
    assert slow_node.process is not None
    children = descendants(slow_node.process.pid)
    thread, answers = start_request(slow_node, stream=stream)

    slow_node.terminate()

    wait_for(lambda: slow_node.status()["draining"], "draining")
    refused = slow_node.chat("tiny:slow")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "node_draining")
    thread.join(30)
    assert answers[0].status_code == 200
    assert "[DONE]" in answers[0].text if stream else answers[0].json()["usage"]["completion_tokens"] == 150
    assert slow_node.wait() == 0
    assert not any(alive(pid) for pid in children)


def test_sigterm_waits_no_longer_than_its_deadline(
    make_node: Callable[..., NodeProcess], control: ControlPlane, spec: Spec
) -> None:
    node = make_node(drain_deadline_s=0.3)
    control.assign(spec("tiny:slow", "slow.gguf", context=4096))
    wait_for(lambda: control.state("tiny:slow") == "ready", "ready")
    assert node.process is not None
    children = descendants(node.process.pid)
    body = {"model": "tiny:slow", "prompt": "a", "max_tokens": 4000, "stream": True}
    headers = {"authorization": f"Bearer {node.key}"}
    with (
        httpx2.Client(timeout=60) as http,
        http.stream("POST", f"{node.url}/v1/completions", json=body, headers=headers) as answer,
    ):
        next(answer.iter_raw())

        node.terminate()

        assert node.wait(15) == 0
    assert not any(alive(pid) for pid in children)


def test_idle_node_stops_at_once(node: NodeProcess) -> None:
    node.terminate()
    assert node.wait(5) == 0
