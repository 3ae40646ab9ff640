"""Tokens are counted for every request, and a client sees usage only if it asked."""

import json
from typing import Any

import pytest

from control_api.router.usage import UsageMeter, usage_of
from tests.router import nodes
from tests.router.fleet import CHAT, MODEL, READER, Fleet, bearer, chat
from tests.router.nodes import Exchange

pytestmark = pytest.mark.anyio

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


async def counts(exchange: Exchange) -> None:
    """Stream as OpenAI does: usage in an event of its own if it was asked for."""
    await exchange.begin_stream()
    for text in nodes.CHUNKS:
        await exchange.event(text)
    await exchange.event("", "stop")
    if (exchange.body.get("stream_options") or {}).get("include_usage"):
        last = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [], "usage": USAGE}
        await exchange.chunk(b"data: " + json.dumps(last).encode() + b"\n\n")
    await exchange.end_stream()


async def test_a_stream_is_counted_without_the_client_noticing(fleet: Fleet) -> None:
    node = await fleet.node(counts)
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat(stream=True))
        figures = (await http.get("/metrics", headers=bearer(READER))).text

    assert node.requests[0].body["stream_options"] == {"include_usage": True}
    assert "usage" not in answer.text
    assert answer.text.count("data: ") == len(nodes.CHUNKS) + 2
    assert [(record.prompt_tokens, record.completion_tokens) for record in fleet.records] == [(7, 3)]
    assert f'muster_router_tokens_total{{kind="completion",model="{MODEL}",node="{node.id}"}} 3.0' in figures


async def test_a_client_that_asks_gets_usage(fleet: Fleet) -> None:
    await fleet.node(counts)
    async with fleet.router():
        stream = await fleet.openai().chat.completions.create(
            model=MODEL, messages=[], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 10
    assert [record.completion_tokens for record in fleet.records] == [3]


@pytest.mark.parametrize("options", [{}, {"include_usage": False}, {"x": 1}])
async def test_options_that_were_sent_stay_what_they_are(fleet: Fleet, options: dict[str, Any]) -> None:
    node = await fleet.node(counts)
    async with fleet.router() as http:
        await http.post(CHAT, json=chat(stream=True, stream_options=options))

    assert node.requests[0].body["stream_options"] == options


async def test_whole_answers_are_counted(fleet: Fleet) -> None:
    await fleet.node()
    async with fleet.router() as http:
        await http.post(CHAT, json=chat())
        await http.post("/v1/embeddings", json={"model": MODEL, "input": "hi"})

    assert [(record.prompt_tokens, record.completion_tokens) for record in fleet.records] == [(1, 3), (1, 0)]


async def test_a_stream_of_one_piece_loses_only_the_usage(fleet: Fleet) -> None:
    """All events in one packet, with usage in the event that ends the answer, as llama.cpp sends it."""
    events = b'data: {"choices":[{"delta":{"content":"\\"usage\\""}}]}\n\n'
    events += b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":2}}\n\n'
    extra = b'data: {"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":5}}\r\n\r\n'

    async def at_once(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.chunk(b": hello\n\n" + events + extra + b"data: [DONE]\n\n")
        await exchange.chunk(b"")

    await fleet.node(at_once)
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat(stream=True))

    assert answer.content == events + b"data: [DONE]\n\n"
    assert fleet.records[0].completion_tokens == 5


async def test_content_is_kept_only_on_demand(fleet: Fleet) -> None:
    await fleet.node()
    async with fleet.router(history_content=True) as http:
        await http.post(CHAT, json=chat())
        stream = await http.post(CHAT, json=chat(stream=True))
    async with fleet.router() as http:
        await http.post(CHAT, json=chat())

    whole, streamed, bare = fleet.records
    assert json.loads(whole.request_content or b"")["messages"][0]["content"] == "hi"
    assert json.loads(whole.response_content or b"")["choices"][0]["message"]["content"] == "Hello!"
    assert streamed.response_content == stream.content
    assert (bare.request_content, bare.response_content) == (None, None)


@pytest.mark.parametrize(("body", "expected"), [
    (b'{"usage":{"prompt_tokens":1,"completion_tokens":2}}', (1, 2)),
    (b'{"usage":{"input_tokens":1,"output_tokens":2}}', (1, 2)),
    (b'{"usage": null}', None),
    (b'{"choices":[{"text":"\\"usage\\":{\\"prompt_tokens\\":9}"}]}', None),
    (b"", None),
])  # fmt: skip
def test_usage_is_read_from_an_answer(body: bytes, expected: tuple[int, int] | None) -> None:
    assert usage_of(body) == expected


@pytest.mark.parametrize(
    "event", [b"data: usage\n\n", b'data: {"usage"\n\n', b'data: ["usage"]\n\n', b'event: "usage"\ndata: {}\n\n']
)
def test_what_is_no_usage_passes(event: bytes) -> None:
    meter = UsageMeter(hide=True)

    assert meter.watch(event) == event
    assert meter.usage is None
