"""Models that are loaded on demand: real engines, and room for one of them."""

import os
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.node_service.control_plane import ControlPlane
from tests.node_service.process import NodeProcess, descendants
from tests.processes import wait_for

type Spec = Callable[..., dict[str, Any]]
type MakeNode = Callable[..., NodeProcess]

MB = 10**6
RAM_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def on_demand(model: dict[str, Any], memory_bytes: int = 60 * MB) -> dict[str, Any]:
    """Return a model of the manifest that is loaded on demand."""
    return model | {"residency": "on_demand", "required_memory_bytes": memory_bytes}


@pytest.fixture
def small_node(make_node: MakeNode, control: ControlPlane) -> Callable[..., NodeProcess]:
    """Start a node with memory for one of the models, and wait until all are on its disk."""

    def start(*models: dict[str, Any]) -> NodeProcess:
        control.memory_reserve_bytes = RAM_BYTES - 100 * MB
        control.assign(*models)
        node = make_node()
        there = {model["id"]: "ready" if model["residency"] == "resident" else "installed" for model in models}
        wait_for(lambda: {m["id"]: m["state"] for m in control.last["models"]} == there, "all here")
        return node

    return start


def answered(node: NodeProcess, model: str) -> httpx2.Response:
    """Ask until the model is loaded, and return the answer."""

    def ask() -> httpx2.Response | None:
        answer = node.chat(model, max_tokens=3)
        return None if answer.status_code == 503 else answer

    return wait_for(ask, f"an answer of {model}")


def code(answer: httpx2.Response) -> tuple[int, str]:
    """Return status and code of an error."""
    return answer.status_code, answer.json()["error"]["code"]


def test_first_request_loads_and_the_least_recently_used_makes_room(
    small_node: Callable[..., NodeProcess], control: ControlPlane, spec: Spec
) -> None:
    node = small_node(on_demand(spec("tiny:a", "cycle.gguf")), on_demand(spec("tiny:b", "wide.gguf")))
    assert node.process is not None
    assert descendants(node.process.pid) == []
    assert (control.last["ready_models"], control.last["initializing"]) == ({"loaded": 0, "total": 0}, False)

    first = node.chat("tiny:a")
    assert code(first) == (503, "model_loading")
    assert "tiny:a is loading" in first.json()["error"]["message"] and int(first.headers["retry-after"]) >= 1
    assert answered(node, "tiny:a").json()["choices"][0]["message"]["content"] == "abc"
    assert control.state("tiny:b") == "installed"

    assert answered(node, "tiny:b").is_success
    wait_for(lambda: (control.state("tiny:a"), control.state("tiny:b")) == ("installed", "ready"), "the change in a heartbeat")
    assert len(descendants(node.process.pid)) == 1
    assert answered(node, "tiny:a").is_success


def test_resident_model_stays(small_node: Callable[..., NodeProcess], control: ControlPlane, spec: Spec) -> None:
    resident = spec("tiny:r", "cycle.gguf") | {"required_memory_bytes": 60 * MB}
    node = small_node(
        resident, on_demand(spec("tiny:a", "wide.gguf"), 50 * MB), on_demand(spec("tiny:b", "embed.gguf"), 30 * MB)
    )

    refused = node.chat("tiny:a")

    assert code(refused) == (503, "model_failed")
    assert "needs 0.05 GB of memory, and 0.04 GB of 0.10 GB are left" in refused.json()["error"]["message"]
    assert answered(node, "tiny:b").is_success
    assert node.chat("tiny:r").is_success


def test_model_with_requests_in_flight_stays(small_node: Callable[..., NodeProcess], control: ControlPlane, spec: Spec) -> None:
    node = small_node(on_demand(spec("tiny:slow", "slow.gguf", context=1024)), on_demand(spec("tiny:b", "wide.gguf")))
    assert answered(node, "tiny:slow").is_success
    answers: list[httpx2.Response] = []
    asking = threading.Thread(target=lambda: answers.append(node.chat("tiny:slow", max_tokens=150)))
    asking.start()
    wait_for(lambda: node.status()["in_flight"] == 1, "the request under way")

    refused = node.chat("tiny:b")

    assert code(refused) == (503, "node_busy")
    assert "while tiny:slow is in use" in refused.json()["error"]["message"]
    asking.join(60)
    assert answers[0].json()["usage"]["completion_tokens"] == 150
    assert answered(node, "tiny:b").is_success


def test_model_that_was_just_loaded_waits_for_who_asked_for_it(
    small_node: Callable[..., NodeProcess], control: ControlPlane, spec: Spec
) -> None:
    node = small_node(on_demand(spec("tiny:a", "cycle.gguf")), on_demand(spec("tiny:b", "wide.gguf")))
    assert code(node.chat("tiny:a")) == (503, "model_loading")
    wait_for(lambda: control.state("tiny:a") == "ready", "loaded")

    # Otherwise two clients that ask for two models would load them in turn for ever and get no answer.
    assert code(node.chat("tiny:b")) == (503, "node_busy")

    assert node.chat("tiny:a").is_success
    assert answered(node, "tiny:b").is_success


def test_model_taken_off_the_node_while_it_loads_is_gone(
    small_node: Callable[..., NodeProcess], control: ControlPlane, spec: Spec
) -> None:
    node = small_node(on_demand(spec("tiny:a", "cycle.gguf")))
    assert code(node.chat("tiny:a")) == (503, "model_loading")

    control.assign()

    wait_for(lambda: code(node.chat("tiny:a")) == (404, "model_not_found"), "forgotten")
    assert node.process is not None
    pid = node.process.pid
    wait_for(lambda: descendants(pid) == [], "no engine left")


def test_new_resident_model_takes_the_room_of_one_on_demand(
    small_node: Callable[..., NodeProcess], control: ControlPlane, spec: Spec
) -> None:
    demanded = on_demand(spec("tiny:a", "cycle.gguf"))
    node = small_node(demanded)
    assert answered(node, "tiny:a").is_success

    control.assign(demanded, spec("tiny:r", "wide.gguf") | {"required_memory_bytes": 60 * MB})

    wait_for(lambda: (control.state("tiny:a"), control.state("tiny:r")) == ("installed", "ready"), "changed places")
