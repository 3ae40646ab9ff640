"""What is wrong with a request, told in OpenAI's shape on every path."""

import asyncio
from typing import Any

import httpx2
import pytest

from tests.router.fleet import CHAT, MODEL, READER, Fleet, bearer, chat

pytestmark = pytest.mark.anyio

BAD_BODIES: dict[str, tuple[bytes, str, str | None]] = {
    "empty": (b"", "invalid_json", None),
    "cut off": (b'{"model": "test:1b"', "invalid_json", None),
    "two values": (b"{} {}", "invalid_json", None),
    "a list": (b"[]", "invalid_json", None),
    "null": (b"null", "invalid_json", None),
    "not UTF-8": (b'{"model": "\xff"}', "invalid_json", None),
    "deeply nested": (b'{"model": "test:1b", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json", None),
    "no model": (b"{}", "missing_required_parameter", "model"),
    "model is a number": (b'{"model": 1}', "invalid_type", "model"),
    "model is null": (b'{"model": null}', "invalid_type", "model"),
    "stream is text": (b'{"model": "test:1b", "stream": "yes"}', "invalid_type", "stream"),
}


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    """Return the error of an answer, which has exactly OpenAI's fields."""
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    error = answer.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["message"]
    return error


async def test_a_bad_body_is_the_callers_fault(fleet: Fleet) -> None:
    node = await fleet.node()
    async with fleet.router() as http:
        answers = {name: await http.post(CHAT, content=body) for name, (body, _, _) in BAD_BODIES.items()}

    told = {name: (answer.status_code, error_of(answer)["code"], error_of(answer)["param"]) for name, answer in answers.items()}
    assert told == {name: (400, code, param) for name, (_, code, param) in BAD_BODIES.items()}
    assert {error_of(answer)["type"] for answer in answers.values()} == {"invalid_request_error"}
    assert node.requests == []


async def test_stream_may_be_null(fleet: Fleet) -> None:
    await fleet.node()
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat(stream=None))

    assert answer.json()["object"] == "chat.completion"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_above_the_limit_is_refused(fleet: Fleet, chunked: bool) -> None:
    async def pieces() -> Any:
        for _ in range(40):
            yield b"x" * 1000

    node = await fleet.node()
    async with fleet.router(body_limit_bytes=20_000) as http:
        answer = await http.post(CHAT, content=pieces() if chunked else b"x" * 40_000)
        fits = await http.post(CHAT, json=chat(padding="x" * 19_000))

    assert (answer.status_code, error_of(answer)["code"]) == (413, "request_too_large")
    assert fits.status_code == 200
    assert len(node.requests) == 1


async def test_an_unknown_model_is_not_found(fleet: Fleet) -> None:
    await fleet.node()
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat(model="nobody:1b"))

    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "nobody:1b" in error["message"]


async def test_an_unknown_path_is_not_found(fleet: Fleet) -> None:
    paths = ["/", "/v1", "/v1/chat", "/v1/chat/completions/", "/v1/models/", "/v1/files", "/v0/nodes", "/%00"]
    async with fleet.router() as http:
        answers = [await http.get(path) for path in paths]

    assert {(answer.status_code, error_of(answer)["code"]) for answer in answers} == {(404, "unknown_url")}


async def test_a_wrong_method_is_told_the_right_ones(fleet: Fleet) -> None:
    write, read = "POST, OPTIONS", "GET, HEAD, OPTIONS"
    wrong = [("GET", CHAT, write), ("DELETE", "/v1/models/x", read), ("POST", "/v1/models", read), ("PUT", "/healthz", read)]
    async with fleet.router() as http:
        answers = [await http.request(method, path) for method, path, _ in wrong]
        head = await http.head(CHAT)

    assert [(answer.status_code, answer.headers["allow"]) for answer in answers] == [(405, allow) for _, _, allow in wrong]
    assert {error_of(answer)["code"] for answer in answers} == {"method_not_allowed"}
    assert (head.status_code, head.headers["allow"], head.content) == (405, write, b"")


async def test_head_and_options_are_answered(fleet: Fleet) -> None:
    await fleet.node()
    async with fleet.router() as http:
        head, whole = await http.head("/v1/models"), await http.get("/v1/models")
        options = await http.options(CHAT)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    assert (options.status_code, options.headers["allow"]) == (204, "POST, OPTIONS")


async def test_a_sane_request_id_is_kept(fleet: Fleet) -> None:
    node = await fleet.node()
    given = ["req_1-a:b", "x" * 128, "x" * 129, "a b", "é"]
    async with fleet.router() as http:
        headers = [{b"x-request-id": value.encode("latin-1")} for value in given]
        ids = [(await http.post(CHAT, json=chat(), headers=header)).headers["x-request-id"] for header in headers]
        failed = await http.get("/v1/unknown", headers=headers[0])

    assert [told == value for told, value in zip(ids, given, strict=True)] == [True, True, False, False, False]
    assert failed.headers["x-request-id"] == given[0]
    assert [exchange.headers["x-request-id"] for exchange in node.requests] == ids
    assert [record.request_id for record in fleet.records] == ids


@pytest.mark.parametrize(("nodes", "message"), [
    ([("loading", 4_100_000_000, 12_100_000_000), ("queued", 0, 0)], "test:1b is loading on 2 nodes: 4.1 of 12.1 GB"),
    ([("downloading", 33_000_000, 98_362_432)], "test:1b is loading on 1 node: 33.0 of 98.4 MB"),
    ([("loading", 5, 5), ("failed", 0, 5)], "test:1b is loading on 1 node"),
])  # fmt: skip
async def test_a_model_that_is_loading_says_how_far(fleet: Fleet, nodes: list[tuple[str, int, int]], message: str) -> None:
    for state, done, total in nodes:
        await fleet.node(ready=False, model_state=state, progress=(done, total))
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat())

    error = error_of(answer)
    assert (answer.status_code, error["code"], error["type"], error["param"]) == (503, "model_loading", "server_error", "model")
    assert error["message"] == message
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("node", [
    None,
    {"ready": False, "model_state": "failed"},
    {"state": "draining", "admission": "drained"},
    {"state": "registering"},
    {"state": "pending", "admission": "pending"},
    {"state": "offline"},
])  # fmt: skip
async def test_a_model_without_a_node_in_service_says_so(fleet: Fleet, node: dict[str, Any] | None) -> None:
    if node is not None:
        await fleet.node(**node)
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat())
        listed = await http.get("/v1/models")

    assert (answer.status_code, error_of(answer)["code"]) == (503, "no_ready_node")
    assert int(answer.headers["retry-after"]) >= 1
    assert listed.json()["data"] == []
    assert all(not fake.requests for fake in fleet.nodes)


async def test_silent_nodes_are_asked_only_when_there_is_no_other(fleet: Fleet) -> None:
    """While the control API is away every node looks silent; answers go on."""
    silent = await fleet.node(state="offline", silent=True)
    loud = await fleet.node()
    async with fleet.router() as http:
        for _ in range(10):
            await http.post(CHAT, json=chat())
        before = (len(silent.requests), len(loud.requests))
        fleet.change_node(loud, state="offline", silent=True)
        await fleet.settled()
        await loud.stop()
        answer = await http.post(CHAT, json=chat())

    assert before == (0, 10)
    assert (answer.status_code, answer.headers["x-muster-node"]) == (200, silent.id)


async def test_a_changed_table_is_picked_up(fleet: Fleet) -> None:
    old = await fleet.node()
    async with fleet.router() as http:
        first = await http.post(CHAT, json=chat())
        new = await fleet.node()
        fleet.change_node(old, admission="drained", state="draining")
        await fleet.settled()
        second = await http.post(CHAT, json=chat())

    assert (first.headers["x-muster-node"], second.headers["x-muster-node"]) == (old.id, new.id)


async def test_the_last_table_serves_while_the_store_is_away(fleet: Fleet) -> None:
    await fleet.node()
    async with fleet.router() as http:
        fleet.source.error = OSError("the store is away")
        await fleet.settled()
        away = [await http.post(CHAT, json=chat()) for _ in range(3)]
        ready = await http.get("/readyz")
        fleet.source.error = None
        fleet.add_key("mk_after", "inference")
        await fleet.settled()
        back = await http.post(CHAT, json=chat(), headers=bearer("mk_after"))

    assert [answer.status_code for answer in away] == [200, 200, 200]
    assert ready.status_code == 200
    assert back.status_code == 200


async def test_without_a_first_table_the_router_is_alive_but_not_ready(fleet: Fleet) -> None:
    await fleet.node()
    fleet.source.error = OSError("the store is away")
    async with fleet.router() as http:
        health = await http.get("/healthz")
        before = [await http.get("/readyz"), await http.post(CHAT, json=chat())]
        fleet.source.error = None
        await fleet.settled()
        after = [await http.get("/readyz"), await http.post(CHAT, json=chat())]

    assert health.json() == {"status": "ok", "ready": False}
    assert [answer.status_code for answer in before] == [503, 503]
    assert [error_of(answer)["code"] for answer in before] == ["no_ready_node"] * 2
    assert [answer.status_code for answer in after] == [200, 200]


async def test_a_finished_request_is_recorded_and_counted(fleet: Fleet) -> None:
    node = await fleet.node()
    async with fleet.router() as http:
        await http.post(CHAT, json=chat(stream=True))
        await http.post(CHAT, json=chat(model="nobody:1b"))
        fleet.dropped = 2
        figures = (await http.get("/metrics", headers=bearer(READER))).text

    [record] = fleet.records
    assert (record.model, record.node_id, record.status, record.stream) == (MODEL, node.id, 200, True)
    assert (record.caller_id, record.attempts, record.error_code) == ("key:mk_inference", 1, None)
    assert record.first_byte_s is not None
    assert record.first_byte_s <= record.duration_s
    assert f'muster_router_requests_total{{model="{MODEL}",status="200"}} 1.0' in figures
    assert "muster_router_history_dropped_total 2.0" in figures
    assert "nobody:1b" not in figures, "label values come from the table"


async def test_many_requests_at_once_share_the_nodes(fleet: Fleet) -> None:
    for _ in range(3):
        await fleet.node()
    async with fleet.router() as http:
        answers = await asyncio.gather(*(http.post(CHAT, json=chat(stream=n % 2 == 0)) for n in range(60)))
        in_flight = await fleet.in_flight()

    assert {answer.status_code for answer in answers} == {200}
    assert min(len(node.requests) for node in fleet.nodes) > 5
    assert in_flight == 0
