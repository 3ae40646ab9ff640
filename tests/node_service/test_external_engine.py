"""Engines of kind `external`: servers that are there already. One is llama.cpp's own, one has Ollama's manners."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.node_service.conftest import REPO
from tests.node_service.control_plane import ControlPlane
from tests.node_service.ollama import Ollama
from tests.node_service.process import PYTHON, NodeProcess
from tests.ports import free_port
from tests.processes import wait_for

type Spec = Callable[..., dict[str, Any]]


@pytest.fixture
def ollama() -> Iterator[Ollama]:
    """A server that has `tiny:latest`."""
    server = Ollama().start()
    yield server
    server.stop()


@pytest.fixture
def adopted(make_node: Callable[..., NodeProcess], control: ControlPlane, spec: Spec, ollama: Ollama) -> NodeProcess:
    """A node that serves its model `tiny:model` by the other server's `tiny:latest`."""
    control.assign(spec("tiny:model", "cycle.gguf") | {"engine": "ollama"})
    return make_node(engines={"ollama": definition(ollama.url, models={"tiny:model": "tiny:latest"}, slots=2)})


def definition(url: str, **fields: Any) -> dict[str, Any]:
    """Return the entry of the node's file."""
    return {"kind": "external", "device": "cpu", "base_url": url, **fields}


def ready(control: ControlPlane) -> None:
    """Wait until the model answers."""
    wait_for(lambda: control.state("tiny:model") == "ready", "ready")


@pytest.fixture
def llama_server(tiny_models: Path, tmp_path: Path) -> Iterator[str]:
    """A llama.cpp server that somebody else started, with a key; give its address."""
    port = free_port()
    (tmp_path / "key").write_text("secret-of-the-server\n")
    command = [PYTHON, "-m", "tests.node_service.llama_server", "--model", str(tiny_models / REPO / "cycle.gguf")]
    command += ["--alias", "tiny:model", "--port", str(port), "--api-key-file", str(tmp_path / "key")]
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: healthy(f"http://127.0.0.1:{port}"), "the server answers")
        yield f"http://127.0.0.1:{port}"
        process.kill()


def healthy(url: str) -> bool:
    """Whether a llama.cpp server answers."""
    try:
        return httpx2.get(f"{url}/health", timeout=2).is_success
    except httpx2.TransportError:
        return False


def test_running_server_is_adopted_and_no_file_fetched(
    make_node: Callable[..., NodeProcess], control: ControlPlane, spec: Spec, llama_server: str, tmp_path: Path
) -> None:
    engines = {"there": definition(f"{llama_server}/v1", api_key_file=str(tmp_path / "key"))}
    node = make_node(engine="there", engines=engines)
    control.assign(spec("tiny:model", "cycle.gguf", context=4096, slots=4))
    ready(control)

    answer = node.chat("tiny:model", max_tokens=6).json()
    too_long = node.chat("tiny:model", messages=[{"role": "user", "content": "x" * 2000}])

    assert (answer["model"], answer["choices"][0]["message"]["content"]) == ("tiny:model", "abcdef")
    assert (too_long.status_code, too_long.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert control.fetches == []
    assert list((node.store_dir / "artifacts").iterdir()) == []


def test_other_name_of_the_server_is_seen_by_nobody(adopted: NodeProcess, control: ControlPlane, ollama: Ollama) -> None:
    ready(control)

    whole = adopted.chat("tiny:model", max_tokens=3).json()
    stream = adopted.chat("tiny:model", max_tokens=3, stream=True, stream_options={"include_usage": True})

    assert {request["model"] for request in ollama.requests} == {"tiny:latest"}
    assert (whole["model"], whole["choices"][0]["message"]["content"]) == ("tiny:model", "abc")
    *events, done = [line.removeprefix("data: ") for line in stream.text.splitlines() if line]
    parsed = [json.loads(event) for event in events]
    assert done == "[DONE]"
    assert {event["model"] for event in parsed} == {"tiny:model"}
    assert "".join(e["choices"][0]["delta"]["content"] for e in parsed if e["choices"]) == "abc"
    assert parsed[-1]["usage"]["completion_tokens"] == 3
    assert control.reported("tiny:model")["slots"] == 2


def test_busy_server_is_a_busy_node(adopted: NodeProcess, control: ControlPlane, ollama: Ollama) -> None:
    ready(control)
    ollama.busy = True
    answer = adopted.chat("tiny:model")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "node_busy")


def test_model_that_the_server_lost_is_not_found(adopted: NodeProcess, control: ControlPlane, ollama: Ollama) -> None:
    ready(control)
    ollama.models = []
    answer = adopted.chat("tiny:model")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_server_that_comes_late_is_found(
    make_node: Callable[..., NodeProcess], control: ControlPlane, spec: Spec, ollama: Ollama
) -> None:
    ollama.models = ["other:latest"]
    control.assign(spec("tiny:latest", "cycle.gguf"))
    node = make_node(engine="ollama", engines={"ollama": definition(ollama.url)})
    wait_for(lambda: control.state("tiny:latest") == "failed", "failed")
    assert "does not serve 'tiny:latest'; it has other:latest" in control.reported("tiny:latest")["error"]
    refused = node.chat("tiny:latest")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_failed")

    ollama.models.append("tiny:latest")

    wait_for(lambda: control.state("tiny:latest") == "ready", "ready")
    assert node.chat("tiny:latest").is_success


def test_server_that_went_away_is_a_crash_for_the_request(adopted: NodeProcess, control: ControlPlane, ollama: Ollama) -> None:
    ready(control)
    ollama.stop()
    answer = adopted.chat("tiny:model")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_crashed")
    ollama.start()
    assert adopted.chat("tiny:model").is_success


def test_parameter_that_the_server_cannot_be_told_is_refused(adopted: NodeProcess, control: ControlPlane, spec: Spec) -> None:
    control.assign(spec("tiny:model", "cycle.gguf", flash_attention="on") | {"engine": "ollama"})
    wait_for(lambda: control.state("tiny:model") == "failed", "failed")
    assert "params.flash_attention: engine ollama runs its models as it likes" in control.reported("tiny:model")["error"]
