"""The llama-cpp-python engine, where it is installed: same answers, one request at a time."""

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.node_service.control_plane import ControlPlane
from tests.node_service.process import NodeProcess
from tests.processes import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _llama_cpp_python(llama_cpp_python: None) -> None:
    """All of them need it."""


@pytest.fixture
def load(
    make_node: Callable[..., NodeProcess], control: ControlPlane, spec: Callable[..., dict[str, Any]]
) -> Callable[..., NodeProcess]:
    """Start a node that runs one model by this engine."""

    def start(file: str) -> NodeProcess:
        node = make_node(engine="llama-cpp-python", context=2048)
        control.assign(spec("tiny:model", file))
        wait_for(lambda: control.state("tiny:model") == "ready", "ready")
        return node

    return start


def test_answers_exactly(load: Callable[..., NodeProcess]) -> None:
    node = load("cycle.gguf")

    whole = node.chat("tiny:model", max_tokens=6, unknown_field=1).json()
    stream = node.chat("tiny:model", max_tokens=6, stream=True, stream_options={"include_usage": True})

    assert whole["choices"][0]["message"]["content"] == "abcdef"
    assert (whole["model"], whole["usage"]["completion_tokens"]) == ("tiny:model", 6)
    *chunks, done = [line.removeprefix("data: ") for line in stream.text.splitlines() if line]
    events = [json.loads(chunk) for chunk in chunks]
    assert done == "[DONE]"
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events if e["choices"]) == "abcdef"
    assert events[-1]["usage"] == whole["usage"]


def test_embeddings(load: Callable[..., NodeProcess]) -> None:
    node = load("embed.gguf")
    body = {"model": "tiny:model", "input": ["one", "two"]}

    plain = node.post("/v1/embeddings", body).json()["data"]
    packed = node.post("/v1/embeddings", body | {"encoding_format": "base64"}).json()["data"]

    assert [len(item["embedding"]) for item in plain] == [64, 64]
    assert all(isinstance(item["embedding"], str) for item in packed)


def test_too_long_a_prompt_is_said(load: Callable[..., NodeProcess]) -> None:
    answer = load("cycle.gguf").chat("tiny:model", messages=[{"role": "user", "content": "x" * 4000}])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize("stream", [True, False])
def test_one_request_at_a_time_and_a_leaving_client_ends_its_own(
    load: Callable[..., NodeProcess], control: ControlPlane, stream: bool
) -> None:
    node = load("slow.gguf")
    assert control.reported("tiny:model")["slots"] == 1

    def leave() -> None:
        body = {"model": "tiny:model", "prompt": "a", "max_tokens": 1500, "stream": stream}
        headers = {"authorization": f"Bearer {node.key}"}
        with pytest.raises(httpx2.ReadTimeout):
            timeout = httpx2.Timeout(30, read=1.0)
            with (
                httpx2.Client(timeout=timeout) as http,
                http.stream("POST", f"{node.url}/v1/completions", json=body, headers=headers) as answer,
            ):
                for _ in answer.iter_raw():
                    busy.wait(5)
                    raise httpx2.ReadTimeout("enough")

    busy = threading.Event()
    leaving = threading.Thread(target=leave)
    leaving.start()
    wait_for(lambda: node.status()["in_flight"] == 1, "the request under way")
    assert node.chat("tiny:model").json()["error"]["code"] == "node_busy"
    busy.set()
    leaving.join(30)

    wait_for(lambda: node.status()["in_flight"] == 0, "the slot free")
    answer = node.chat("tiny:model", max_tokens=3)
    assert answer.is_success, answer.text
