"""Nodes whose answers are strange, but of the right shape as far as HTTP goes."""

import asyncio
import json

import openai
import pytest

from tests.router.fleet import CHAT, MODEL, Fleet, chat, eventually
from tests.router.nodes import Behaviour, Exchange

pytestmark = pytest.mark.anyio

LINE_BYTES = 1 << 20
OWN_HEADERS = {
    *("content-type", "content-length", "date", "x-request-id", "x-content-type-options"),
    *("x-muster-node", "x-muster-attempts", "x-muster-queue-ms"),
}


async def drips(exchange: Exchange) -> None:
    """Send a head byte by byte, without end."""
    while not exchange.writer.is_closing():
        await exchange.send(b"HTTP/1.1 200 OK\r\nx-drip: " if not exchange.node.released.is_set() else b"x")
        exchange.node.released.set()
        await asyncio.sleep(0.02)


def streams(*pieces: bytes) -> Behaviour:
    """Return a node that streams these bytes and ends properly as HTTP."""

    async def behave(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for piece in pieces:
            await exchange.chunk(piece)
        await exchange.chunk(b"")

    return behave


async def test_a_head_that_drips_is_silence(fleet: Fleet) -> None:
    dripping = await fleet.node(drips)
    async with fleet.router(first_byte_timeout_s=0.3) as http:
        answer = await http.post(CHAT, json=chat())
        await eventually(lambda: dripping.aborted == 1)

    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")


async def test_a_long_line_is_passed_on_whole(fleet: Fleet) -> None:
    text = "x" * LINE_BYTES

    async def long(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(text, "stop")
        await exchange.end_stream()

    await fleet.node(long)
    async with fleet.router():
        stream = await fleet.openai().chat.completions.create(model=MODEL, messages=[], stream=True)
        parts = [chunk.choices[0].delta.content async for chunk in stream]

    assert parts == [text]


@pytest.mark.parametrize("sent", [b"<html>Bad gateway</html>", b"data: no end of line", b": only\n\n: comments\n\n", b""])
async def test_a_stream_without_an_event_is_made_good_elsewhere(fleet: Fleet, sent: bytes) -> None:
    strange = await fleet.node(streams(sent) if sent else streams())
    good = await fleet.node()
    async with fleet.router() as http:
        answers = [await http.post(CHAT, json=chat(stream=True)) for _ in range(2)]
        while not strange.requests:
            answers.append(await http.post(CHAT, json=chat(stream=True)))

    assert {answer.headers["x-muster-node"] for answer in answers} == {good.id}
    assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers)


@pytest.mark.parametrize(
    "event",
    [
        b"data: {not json\n\n",
        b"data: \xff\xfe\x00\n\n",
        b"junk\n\n",
        b"data: null\n\n",
        b'data: {"usage": 7}\n\n',
        b"id: 1\n\n",
    ],
)
async def test_strange_events_pass_and_the_stream_ends_well(fleet: Fleet, event: bytes) -> None:
    """What is in an event is between the engine and its client."""
    await fleet.node(streams(event, b"data: [DONE]\n\n"))
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat(stream=True))

    assert answer.content == event + b"data: [DONE]\n\n"
    assert [record.error_code for record in fleet.records] == [None]


async def test_a_stream_with_an_error_in_it_passes(fleet: Fleet) -> None:
    """An engine's own error frame is an answer; what comes after it tells whether it was the end."""
    frame = b'data: {"error": {"message": "out of memory", "type": "server_error", "param": null, "code": "oom"}}\n\n'
    await fleet.node(streams(frame))
    async with fleet.router():
        stream = await fleet.openai().chat.completions.create(model=MODEL, messages=[], stream=True)
        with pytest.raises(openai.APIError) as raised:
            await anext(aiter(stream))

    assert json.loads(frame[6:])["error"]["code"] == raised.value.code


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("application/json; charset=utf-8", "application/json"),
        ("Application/JSON", "application/json"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/vtt; charset=utf-8", "text/vtt; charset=utf-8"),
        ("text/event-stream", "text/event-stream; charset=utf-8"),
        ("", "application/json"),
        ("text/html", "application/octet-stream"),
        ("text/html; application/json", "application/octet-stream"),
        ("image/svg+xml", "application/octet-stream"),
        ("application/json, text/html", "application/octet-stream"),
        ("text/javascript", "application/octet-stream"),
    ],
)
async def test_a_node_cannot_have_a_browser_run_its_answer(fleet: Fleet, said: str, told: str) -> None:
    async def answers(exchange: Exchange) -> None:
        foreign = (
            "set-cookie: a=b\r\nlocation: http://x\r\naccess-control-allow-origin: *\r\nrefresh: 0\r\nretry-after: soon\r\n"
        )
        await exchange.answer(200, b"<script>alert(1)</script>", said, foreign)

    await fleet.node(answers)
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat())

    assert (answer.status_code, answer.headers["content-type"]) == (200, told)
    assert set(answer.headers) == OWN_HEADERS


async def test_every_answer_of_the_router_is_what_it_says(fleet: Fleet) -> None:
    await fleet.node()
    async with fleet.router() as http:
        whole, missing = await http.post(CHAT, json=chat()), await http.get("/nothing")
        streamed, health = await http.post(CHAT, json=chat(stream=True)), await http.get("/healthz")

    assert {answer.headers["x-content-type-options"] for answer in (whole, missing, streamed, health)} == {"nosniff"}
