"""What a node does wrong and what the router makes of it: the table of design section 7, row by row."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from control_api.router.breaker import FAILURES_TO_OPEN
from control_api.router.dispatch import LOST_LIMIT
from tests.router import nodes
from tests.router.fleet import CHAT, MODEL, Fleet, chat, eventually
from tests.router.nodes import Behaviour, says

pytestmark = pytest.mark.anyio

AFTER_SENDING = {
    "resets": nodes.resets,
    "closes": nodes.closes,
    "talks garbage": nodes.talks_garbage,
    "answers half": nodes.answers_half,
    "500": says(500),
    "502": says(502),
    "503 without a code": says(503),
}
SKIPPED = {
    "401": says(401),
    "403": says(403),
    "302": says(302, extra="location: /elsewhere\r\n"),
    "404": says(404, "model_not_found"),
}


def rows(table: dict[str, Behaviour]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bad", table.values(), ids=table.keys())


async def ask_until(http: httpx2.AsyncClient, condition: Callable[[], Any], **fields: Any) -> list[httpx2.Response]:
    """Ask until a condition holds, and return the answers; equal nodes are chosen by chance."""
    answers = [await http.post(CHAT, json=chat(**fields))]
    async with asyncio.timeout(10):
        while not condition():
            answers.append(await http.post(CHAT, json=chat(**fields)))
    return answers


@pytest.mark.parametrize("stream", [False, True])
async def test_a_node_that_refuses_connections_costs_nothing(fleet: Fleet, stream: bool) -> None:
    for _ in range(4):
        await fleet.node(up=False)
    await fleet.node()
    async with fleet.router() as http:
        answers = [await http.post(CHAT, json=chat(stream=stream)) for _ in range(10)]

    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["x-muster-node"] for answer in answers} == {"node-5"}
    assert sum(int(answer.headers["x-muster-attempts"]) for answer in answers) <= 10 + 4, "each node refused once"


async def test_a_node_that_refused_is_out_at_once_and_back_after_a_probe(fleet: Fleet) -> None:
    bad = await fleet.node(up=False)
    async with fleet.router() as http:
        first = await http.post(CHAT, json=chat())
        second = await http.post(CHAT, json=chat())
        await bad.start()

        await ask_until(http, lambda: bad.requests)
        third = await http.post(CHAT, json=chat())

    assert (first.status_code, first.json()["error"]["code"]) == (502, "upstream_error")
    assert first.headers["x-should-retry"] == "false"
    assert (second.status_code, second.json()["error"]["code"]) == (503, "no_ready_node")
    assert second.headers["x-muster-attempts"] == "0"
    assert int(second.headers["retry-after"]) >= 1
    assert third.status_code == 200


@rows(AFTER_SENDING)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_the_first_byte_is_made_good_elsewhere(fleet: Fleet, bad: Behaviour, stream: bool) -> None:
    failing = await fleet.node(bad)
    working = await fleet.node()
    async with fleet.router() as http:
        answers = await ask_until(http, lambda: len(failing.requests) == FAILURES_TO_OPEN, stream=stream)
        answers += [await http.post(CHAT, json=chat(stream=stream)) for _ in range(10)]
        in_flight = await fleet.in_flight()

    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["x-muster-node"] for answer in answers} == {working.id}
    assert {answer.headers["x-muster-attempts"] for answer in answers} == {"1", "2"}
    assert len(failing.requests) == FAILURES_TO_OPEN, "after some failures the node is left alone"
    assert in_flight == 0


@rows(AFTER_SENDING)
async def test_at_most_two_further_nodes_get_a_request_that_was_sent(fleet: Fleet, bad: Behaviour) -> None:
    for _ in range(5):
        await fleet.node(bad)
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat())

    assert sum(len(node.requests) for node in fleet.nodes) == LOST_LIMIT
    assert max(len(node.requests) for node in fleet.nodes) == 1, "each node once"
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-muster-attempts"] == str(LOST_LIMIT)
    assert "secret words" not in answer.text


async def test_a_silent_node_is_left_for_the_next_one(fleet: Fleet) -> None:
    await fleet.node(nodes.hangs)
    await fleet.node(nodes.streams_then_silence)
    async with fleet.router(first_byte_timeout_s=0.3) as http:
        answer = await http.post(CHAT, json=chat(stream=True))
        in_flight = await fleet.in_flight()

    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
    assert answer.headers["x-muster-attempts"] == "2"
    assert in_flight == 0
    await eventually(lambda: all(node.aborted == 1 for node in fleet.nodes))


async def test_a_crashed_engine_gets_one_further_node(fleet: Fleet) -> None:
    for _ in range(4):
        await fleet.node(says(502, "engine_crashed"))
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat())

        again = await http.post(CHAT, json=chat())
        other = await http.post(CHAT, json=chat(other=1))

    assert answer.status_code == 502
    assert (again.status_code, again.json()["error"]["code"]) == (400, "engine_crashed")
    assert again.headers["x-should-retry"] == "false"
    assert other.status_code == 502, "only the body that did it is refused"
    assert sum(len(node.requests) for node in fleet.nodes) == 4


@pytest.mark.parametrize("code", ["node_busy", "node_draining"])
async def test_a_busy_node_is_passed_over_without_harm_to_it(fleet: Fleet, code: str) -> None:
    busy = await fleet.node(says(503, code))
    await fleet.node()
    async with fleet.router() as http:
        answers = await ask_until(http, lambda: busy.requests)
        busy.behave = nodes.good
        answers += await ask_until(http, lambda: len(busy.requests) == 2)

    assert {answer.status_code for answer in answers} == {200}
    assert answers[-1].headers["x-muster-node"] == busy.id


async def test_all_busy_means_waiting_until_one_is_free(fleet: Fleet) -> None:
    node = await fleet.node(says(503, "node_busy"))
    async with fleet.router() as http:
        waiting = asyncio.create_task(http.post(CHAT, json=chat()))
        await eventually(lambda: node.requests)
        node.behave = nodes.good
        answer = await waiting

    assert answer.status_code == 200
    assert int(answer.headers["x-muster-attempts"]) >= 2
    assert int(answer.headers["x-muster-queue-ms"]) > 0


@rows(SKIPPED)
async def test_a_node_that_does_not_know_us_is_skipped_until_the_next_table(fleet: Fleet, bad: Behaviour) -> None:
    wrong = await fleet.node(bad)
    await fleet.node()
    async with fleet.router() as http:
        answers = await ask_until(http, lambda: wrong.requests)
        answers += [await http.post(CHAT, json=chat()) for _ in range(10)]
        asked = len(wrong.requests)
        wrong.behave = nodes.good
        fleet.source.change()
        await ask_until(http, lambda: len(wrong.requests) > asked)

    assert {answer.status_code for answer in answers} == {200}
    assert asked == 1


@rows(SKIPPED)
async def test_what_a_node_says_about_us_is_not_shown(fleet: Fleet, bad: Behaviour) -> None:
    await fleet.node(bad)
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat())

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert answer.headers["x-should-retry"] == "false"
    assert "location" not in answer.headers
    assert "secret words" not in answer.text


@pytest.mark.parametrize("status", [400, 404, 413, 422, 429])
async def test_other_client_errors_are_passed_on(fleet: Fleet, status: int) -> None:
    await fleet.node(says(status, "context_length_exceeded"))
    await fleet.node(says(status, "context_length_exceeded"))
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat(stream=True))

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, "context_length_exceeded")
    assert answer.headers["x-muster-attempts"] == "1"


async def test_an_answer_above_the_limit_is_refused_without_a_retry(fleet: Fleet) -> None:
    async def verbose(exchange: nodes.Exchange) -> None:
        await exchange.answer(200, b'{"x": "' + b"x" * 20_000 + b'"}')

    await fleet.node(verbose)
    await fleet.node(verbose)
    async with fleet.router(body_limit_bytes=10_000) as http:
        answer = await http.post(CHAT, json=chat())

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert answer.headers["x-muster-attempts"] == "1"


async def test_comments_before_the_first_data_do_not_forbid_a_retry(fleet: Fleet) -> None:
    dying = await fleet.node(nodes.comments_then_resets)
    good = await fleet.node()
    async with fleet.router() as http:
        answers = await ask_until(http, lambda: dying.requests, stream=True)

    assert {answer.headers["x-muster-node"] for answer in answers} == {good.id}


@pytest.mark.parametrize("dies", [nodes.streams_then_resets, nodes.streams_without_end])
async def test_a_stream_that_breaks_off_ends_with_an_error(fleet: Fleet, dies: Behaviour) -> None:
    """Half an event is not forwarded: what precedes the error frame is parsable, and nothing says [DONE]."""
    await fleet.node(dies)
    async with fleet.router() as http:
        raw = await http.post(CHAT, json=chat(stream=True))
        stream = await fleet.openai().chat.completions.create(model=MODEL, messages=[], stream=True)
        parts = []
        with pytest.raises(openai.APIError) as broken:
            async for chunk in stream:
                parts.append(chunk.choices[0].delta.content)
        in_flight = await fleet.in_flight()

    events = raw.text.strip().split("\n\n")
    assert len(events) == 2
    assert '"code":"upstream_error"' in events[1]
    assert "[DONE]" not in raw.text
    assert parts == ["Hel"]
    assert broken.value.code == "upstream_error"
    assert in_flight == 0


async def test_a_long_prefill_gets_comments_and_may_still_move(fleet: Fleet) -> None:
    """Comments fix the status at 200; the node fails after that and another one answers."""
    slow = await fleet.node(nodes.hangs)
    async with fleet.router(keep_alive_s=0.05) as http, http.stream("POST", CHAT, json=chat(stream=True)) as answer:
        pieces = answer.aiter_raw()
        first = await anext(pieces)
        fleet.change_node(slow, admission="drained", state="draining")
        await fleet.node()
        await fleet.settled()
        await slow.stop()
        rest = b"".join([piece async for piece in pieces])

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert first == b": keep-alive\n\n"
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_an_error_after_comments_is_an_error_frame(fleet: Fleet) -> None:
    async def late_error(exchange: nodes.Exchange) -> None:
        await exchange.node.released.wait()
        await says(400, "context_length_exceeded")(exchange)

    node = await fleet.node(late_error)
    async with fleet.router(keep_alive_s=0.05) as http, http.stream("POST", CHAT, json=chat(stream=True)) as answer:
        pieces = answer.aiter_raw()
        await anext(pieces)
        node.released.set()
        rest = b"".join([piece async for piece in pieces])

    assert b'"code":"context_length_exceeded"' in rest
    assert b"[DONE]" not in rest


async def test_a_stream_that_goes_silent_ends_with_an_error(fleet: Fleet) -> None:
    node = await fleet.node(nodes.streams_until_released)
    async with fleet.router(stall_timeout_s=0.2) as http:
        answer = await http.post(CHAT, json=chat(stream=True))

    assert "Hel" in answer.text
    assert '"code":"upstream_error"' in answer.text
    assert "[DONE]" not in answer.text
    await eventually(lambda: node.aborted == 1)


async def test_silence_before_the_first_data_has_a_limit_of_its_own(fleet: Fleet) -> None:
    """A long prompt takes its time, also after the engine has sent the head of its answer."""

    async def thinks(exchange: nodes.Exchange) -> None:
        await exchange.begin_stream()
        await asyncio.sleep(0.5)
        await exchange.event("Hello!", "stop")
        await exchange.end_stream()

    await fleet.node(thinks)
    async with fleet.router(stall_timeout_s=0.1, first_byte_timeout_s=20) as http:
        answer = await http.post(CHAT, json=chat(stream=True))

    assert answer.text.endswith("data: [DONE]\n\n")
