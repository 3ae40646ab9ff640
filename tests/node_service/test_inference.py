"""The OpenAI endpoints over real engines: answers, admission, disconnects and crashes."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.node_service.control_plane import ControlPlane
from tests.node_service.process import NodeProcess, alive, descendants
from tests.processes import wait_for

type Spec = Callable[..., dict[str, Any]]
type Loaded = Callable[..., NodeProcess]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONG = {"max_tokens": 3000, "stream": True}  # more than ten seconds of the slow model


@pytest.fixture
def loaded(make_node: Callable[..., NodeProcess], control: ControlPlane, spec: Spec) -> Loaded:
    """Start a node with one model that is ready."""

    def load(file: str = "cycle.gguf", *, settings: dict[str, Any] | None = None, **params: Any) -> NodeProcess:
        node = make_node(**(settings or {}))
        control.assign(spec("tiny:model", file, **params))
        wait_for(lambda: control.state("tiny:model") == "ready", "ready")
        return node

    return load


@contextmanager
def streaming(node: NodeProcess) -> Iterator[Iterator[bytes]]:
    """Open a long streamed chat, wait for its first byte and give the rest."""
    body = {"model": "tiny:model", "messages": [{"role": "user", "content": "hi"}], **LONG}
    headers = {"authorization": f"Bearer {node.key}"}
    url = f"{node.url}/v1/chat/completions"
    with httpx2.Client(timeout=60) as http, http.stream("POST", url, json=body, headers=headers) as answer:
        chunks = answer.iter_raw()
        next(chunks)
        yield chunks


def frames(answer: httpx2.Response) -> list[str]:
    """Return the data of a stream's events."""
    return [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]


def engine_pid(node: NodeProcess) -> int:
    """Return the pid of the node's only engine."""
    assert node.process is not None
    (pid,) = descendants(node.process.pid)
    return pid


def test_chat_answers_exactly(serving: NodeProcess) -> None:
    answer = serving.chat("tiny:model", max_tokens=30)

    assert answer.status_code == 200
    body = answer.json()
    assert body["model"] == "tiny:model"
    assert body["choices"][0]["message"]["content"] == (LETTERS * 2)[:30]
    assert body["usage"]["completion_tokens"] == 30


def test_streamed_chat_answers_exactly_with_usage(serving: NodeProcess) -> None:
    answer = serving.chat("tiny:model", max_tokens=5, stream=True, stream_options={"include_usage": True})

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
    *chunks, done = frames(answer)
    assert done == "[DONE]"
    events = [json.loads(chunk) for chunk in chunks]
    text = "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])
    assert text == "abcde"
    assert events[-1]["usage"]["completion_tokens"] == 5


def test_openai_client_works_unchanged(serving: NodeProcess) -> None:
    client = openai.OpenAI(base_url=f"{serving.url}/v1", api_key=serving.key, max_retries=0)

    chat = client.chat.completions.create(model="tiny:model", messages=[{"role": "user", "content": "hi"}], max_tokens=4)
    text = client.completions.create(model="tiny:model", prompt="a", max_tokens=4)
    vectors = client.embeddings.create(model="tiny:embed", input=["one", "two"])
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "hi"}])

    assert chat.choices[0].message.content == "abcd"
    assert text.choices[0].text == "bcde"
    assert [len(item.embedding) for item in vectors.data] == [64, 64]
    assert {m.id for m in client.models.list()} == {"tiny:model", "tiny:embed"}
    assert client.models.retrieve("tiny:model").id == "tiny:model"
    assert unknown.value.code == "model_not_found"


def test_embeddings_can_be_asked_for(loaded: Loaded) -> None:
    node = loaded(embedding=True)
    answer = node.post("/v1/embeddings", {"model": "tiny:model", "input": ["one", "two"]})
    assert [len(item["embedding"]) for item in answer.json()["data"]] == [64, 64]
    assert node.chat("tiny:model", max_tokens=3).json()["choices"][0]["message"]["content"] == "abc"


def test_chat_model_refuses_embeddings(serving: NodeProcess) -> None:
    answer = serving.post("/v1/embeddings", {"model": "tiny:model", "input": "one"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_supported")


def test_context_is_for_each_request(serving: NodeProcess) -> None:
    # The node's context is 512 tokens and it has two slots; a character is a token here.
    assert serving.chat("tiny:model", messages=[{"role": "user", "content": "x" * 400}]).is_success
    answer = serving.chat("tiny:model", messages=[{"role": "user", "content": "x" * 600}])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages": []}', b'{"model": 7}', b"[" * 100_000])
def test_garbage_is_a_bad_request(serving: NodeProcess, body: bytes) -> None:
    answer = serving.request("POST", "/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_engine_errors_have_the_openai_shape(serving: NodeProcess) -> None:
    answer = serving.post("/v1/chat/completions", {"model": "tiny:model"})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "invalid_request")


def test_full_node_refuses_at_once(loaded: Loaded, control: ControlPlane) -> None:
    node = loaded("slow.gguf", slots=1, context=4096)
    with streaming(node):
        answer = node.chat("tiny:model")
        wait_for(lambda: control.reported("tiny:model")["in_flight"] == 1, "the slot in a heartbeat")
        assert node.status()["in_flight"] == 1
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "node_busy")
    assert answer.headers["retry-after"] == "1"


def test_slot_is_free_once_its_answer_is_complete(loaded: Loaded) -> None:
    node = loaded(slots=1)
    with httpx2.Client(base_url=node.url, headers={"authorization": f"Bearer {node.key}"}, timeout=60) as http:
        body = {"model": "tiny:model", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        statuses = [http.post("/v1/chat/completions", json=body | {"stream": n % 2 == 0}).status_code for n in range(60)]
    assert set(statuses) == {200}


def test_leaving_client_frees_the_slot(loaded: Loaded) -> None:
    node = loaded("slow.gguf", slots=1, context=4096)

    with streaming(node):
        pass

    # The engine's slot as well: with one slot, it could not answer before the long one's end.
    wait_for(lambda: node.status()["in_flight"] == 0, "the node's slot free", 2)
    assert node.chat("tiny:model", max_tokens=3).json()["choices"][0]["message"]["content"] == "abc"


@pytest.mark.parametrize("stream", [True, False])
def test_client_that_leaves_before_the_first_byte_frees_the_slot(loaded: Loaded, stream: bool) -> None:
    node = loaded("slow.gguf", slots=1, context=4096)
    # A long prompt keeps the engine busy before its first byte; without a stream, the answer does.
    prompt, tokens = ("x" * 400, 2) if stream else ("x", 3000)
    body = {"model": "tiny:model", "prompt": prompt, "max_tokens": tokens, "stream": stream}
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(
            f"{node.url}/v1/completions",
            json=body,
            headers={"authorization": f"Bearer {node.key}"},
            timeout=httpx2.Timeout(30, read=0.1),
        )

    wait_for(lambda: node.status()["in_flight"] == 0, "the node's slot free", 2)
    assert node.chat("tiny:model", max_tokens=3).is_success


def test_killed_engine_is_restarted_and_said(loaded: Loaded, control: ControlPlane) -> None:
    node = loaded()
    before = engine_pid(node)

    os.kill(before, signal.SIGKILL)

    error = wait_for(lambda: control.reported("tiny:model")["error"], "the crash in a heartbeat")
    assert "SIGKILL" in error
    wait_for(lambda: control.state("tiny:model") == "ready", "ready again")
    wait_for(lambda: node.chat("tiny:model").is_success, "an answer again")
    assert engine_pid(node) != before
    assert any("SIGKILL" in str(r.get("error")) for r in node.get("/v0/logs?level=error").json()["records"])


def test_engine_that_dies_before_the_first_byte_is_a_502(loaded: Loaded) -> None:
    node = loaded("slow.gguf", slots=1, context=4096)
    answers: list[httpx2.Response] = []
    asking = threading.Thread(target=lambda: answers.append(node.chat("tiny:model", max_tokens=3000)))
    asking.start()
    wait_for(lambda: node.status()["in_flight"] == 1, "the request under way")

    os.kill(engine_pid(node), signal.SIGKILL)

    asking.join(20)
    assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (502, "engine_crashed")


def test_engine_that_dies_in_a_stream_ends_it_with_an_error(loaded: Loaded) -> None:
    node = loaded("slow.gguf", slots=1, context=4096)
    with streaming(node) as chunks:
        os.kill(engine_pid(node), signal.SIGKILL)
        rest = b"".join(chunks).decode()

    last = [line for line in rest.splitlines() if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_crashed"
    assert "[DONE]" not in rest


def test_model_that_does_not_load_is_given_up_with_the_reason(node: NodeProcess, control: ControlPlane, spec: Spec) -> None:
    control.assign(spec("tiny:broken", "broken.gguf"), spec("tiny:good", "cycle.gguf"))

    wait_for(lambda: control.state("tiny:broken") == "failed", "failed")

    error = control.reported("tiny:broken")["error"]
    assert "given up after 3 failures" in error and "exit code 1" in error
    # llama.cpp logs in a thread, so its own last line may be lost with the process; that of the binding never is.
    assert "failed to load model" in error or "Failed to init server" in error
    wait_for(lambda: control.last["ready_models"] == {"loaded": 1, "total": 2}, "the other one ready")
    assert not control.last["initializing"]
    answer = node.chat("tiny:broken")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_failed")


def test_unknown_engine_is_said(node: NodeProcess, control: ControlPlane, spec: Spec) -> None:
    control.assign(spec("tiny:model", "cycle.gguf") | {"engine": "vroom"})
    wait_for(lambda: control.state("tiny:model") == "failed", "failed")
    assert "unknown engine 'vroom'" in control.reported("tiny:model")["error"]


def test_engine_hears_only_this_machine_and_only_the_node(loaded: Loaded) -> None:
    pid = engine_pid(loaded())
    environment = Path(f"/proc/{pid}/environ").read_text()
    arguments = Path(f"/proc/{pid}/cmdline").read_text()

    ports = _listening(pid)
    assert [address for address, _ in ports] == ["0100007F"]  # 127.0.0.1
    answer = httpx2.post(f"http://127.0.0.1:{ports[0][1]}/v1/completions", json={"prompt": "a"}, timeout=5)
    assert answer.status_code == 401
    assert "OMP_WAIT_POLICY=passive" in environment and "MUSTER" not in environment
    assert "api_key" not in arguments


def test_no_engine_outlives_a_killed_node(loaded: Loaded) -> None:
    node = loaded()
    pid = engine_pid(node)

    node.kill()

    wait_for(lambda: not alive(pid), "the engine gone")


def test_changed_parameters_restart_the_engine(loaded: Loaded, control: ControlPlane, spec: Spec) -> None:
    node = loaded(slots=2)
    before = engine_pid(node)

    control.assign(spec("tiny:model", "cycle.gguf", slots=3, generation=2))

    wait_for(lambda: control.reported("tiny:model").get("slots") == 3, "three slots")
    wait_for(lambda: node.chat("tiny:model").is_success, "an answer")
    assert not alive(before)


def _listening(pid: int) -> list[tuple[str, int]]:
    """Return the addresses (hexadecimal, as the kernel shows them) and ports a process listens on."""
    sockets = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    listening = [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return [(row[1].split(":")[0], int(row[1].split(":")[1], 16)) for row in listening]
