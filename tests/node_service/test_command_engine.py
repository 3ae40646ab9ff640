"""Engines of kind `command`: llama.cpp's server as a program of the host, started by the node's own file."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.node_service.control_plane import ControlPlane
from tests.node_service.process import PYTHON, NodeProcess, alive, descendants
from tests.processes import wait_for

type Spec = Callable[..., dict[str, Any]]
type Start = Callable[..., NodeProcess]

ARGV = (
    *(PYTHON, "-m", "tests.node_service.llama_server", "--model", "{model_path}", "--alias", "{model_id}"),
    *("--port", "{port}", "--api-key-file", "{api_key_file}", "--ctx-size", "{total_context}", "--parallel", "{slots}"),
    *("--threads", "{threads}"),
)
SERVER = {"kind": "command", "device": "cpu", "argv": list(ARGV)}


@pytest.fixture
def start(make_node: Callable[..., NodeProcess], control: ControlPlane, spec: Spec) -> Start:
    """Start a node whose default engine is a command, with one model assigned."""

    def node(definition: dict[str, Any] = SERVER, *, file: str = "cycle.gguf", **params: Any) -> NodeProcess:
        started = make_node(engine="llama-server", engines={"llama-server": definition}, log_level="debug")
        control.assign(spec("tiny:model", file, **params))
        return started

    return node


def ready(control: ControlPlane) -> None:
    """Wait until the model answers."""
    wait_for(lambda: control.state("tiny:model") == "ready", "ready")


def failed(control: ControlPlane) -> str:
    """Wait until the model is given up and return why."""
    wait_for(lambda: control.state("tiny:model") == "failed", "failed")
    return str(control.reported("tiny:model")["error"])


def engine_pids(node: NodeProcess) -> list[int]:
    """Return the processes of the node's only engine, the one that watches over the others first."""
    assert node.process is not None
    return descendants(node.process.pid)


def test_answers_like_any_other_engine(start: Start, control: ControlPlane) -> None:
    node = start(slots=3)
    ready(control)

    whole = node.chat("tiny:model", max_tokens=6).json()
    stream = node.chat("tiny:model", max_tokens=6, stream=True, stream_options={"include_usage": True})
    too_long = node.chat("tiny:model", messages=[{"role": "user", "content": "x" * 600}])

    assert whole["choices"][0]["message"]["content"] == "abcdef"
    assert '"completion_tokens":6' in stream.text and stream.text.rstrip().endswith("data: [DONE]")
    assert (too_long.status_code, too_long.json()["error"]["code"]) == (400, "context_length_exceeded")
    reported = control.reported("tiny:model")
    assert (reported["slots"], reported["device"]) == (3, "cpu")


def test_nobody_else_may_ask_it_and_its_key_is_in_no_argument(start: Start, control: ControlPlane) -> None:
    node = start()
    ready(control)
    arguments = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in engine_pids(node)]

    (key_path,) = {argv[argv.index(b"--api-key-file") + 1] for argv in arguments if b"--api-key-file" in argv}

    assert key_path.startswith(b"/proc/")
    assert len(Path(key_path.decode()).read_text()) > 20


def test_key_can_go_into_the_environment(start: Start, control: ControlPlane, tmp_path: Path) -> None:
    arguments = " ".join(f"'{argument}'" for argument in ARGV).replace("{api_key_file}", str(tmp_path / "key"))
    script = f'printf %s "$SERVER_KEY" > {tmp_path}/key && exec {arguments}'

    node = start({**SERVER, "argv": ["sh", "-c", script], "environment": {"SERVER_KEY": "{api_key}"}})

    ready(control)
    assert node.chat("tiny:model", max_tokens=3).is_success


def test_killed_server_comes_back(start: Start, control: ControlPlane) -> None:
    node = start()
    ready(control)
    watcher, server = engine_pids(node)

    os.kill(server, signal.SIGKILL)

    wait_for(lambda: "SIGKILL" in str(control.reported("tiny:model")["error"]), "the crash in a heartbeat")
    wait_for(lambda: node.chat("tiny:model").is_success, "an answer again")
    assert not {watcher, server} & set(engine_pids(node))


def test_nothing_outlives_a_killed_node_also_behind_a_script(start: Start, control: ControlPlane) -> None:
    command = " ".join(f"'{argument}'" for argument in ARGV)
    node = start({**SERVER, "argv": ["sh", "-c", f"{command}; echo ended"]})
    ready(control)
    pids = engine_pids(node)
    assert len(pids) == 3  # the watcher, the shell and the server

    node.kill()

    wait_for(lambda: not any(alive(pid) for pid in pids), "all of them gone")


def test_stopped_node_leaves_nothing(start: Start, control: ControlPlane) -> None:
    node = start()
    ready(control)
    pids = engine_pids(node)

    node.terminate()

    assert node.wait() == 0
    assert not any(alive(pid) for pid in pids)


def test_program_that_ends_says_why(start: Start, control: ControlPlane) -> None:
    start({**SERVER, "argv": ["sh", "-c", "echo no such card >&2; exit 3", "{port}"]})
    error = failed(control)
    assert "given up after 3 failures: exit code 3: no such card" in error


def test_program_that_is_not_there_is_named(start: Start, control: ControlPlane) -> None:
    start({**SERVER, "argv": ["/opt/nowhere/llama-server", "{port}"]})
    assert "cannot start /opt/nowhere/llama-server" in failed(control)


def test_program_that_is_never_healthy_is_given_up(start: Start, control: ControlPlane) -> None:
    start({**SERVER, "health_path": "/never", "start_timeout_s": 1})
    assert "/never did not answer within 1 s" in failed(control)


def test_parameter_that_the_program_is_not_told_is_refused(start: Start, control: ControlPlane) -> None:
    start(kv_cache_type="q8_0")
    assert "params.kv_cache_type: engine llama-server has no {kv_cache_type}" in failed(control)
