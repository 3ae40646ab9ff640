"""An engine that answers every endpoint as OpenAI does, and can be told by a model's name what shall go wrong first.

Model ids are ``<fault>:<anything>``. Each model fails for itself, so no case disturbs another.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from tests.router import nodes
from tests.router.nodes import CHUNKS, Exchange

TEXT = "".join(CHUNKS)
USAGE = {"input_tokens": 1, "output_tokens": 3, "total_tokens": 4}
_DETAILS = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}


def response(model: str, status: str, text: str) -> dict[str, Any]:
    """Return a response object with one message."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    message = {"id": "m1", "type": "message", "role": "assistant", "status": status, "content": content}
    common = {"id": "resp_1", "object": "response", "created_at": 1, "model": model, "status": status, "error": None}
    options = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "temperature": 1.0, "top_p": 1.0}
    nothing = dict.fromkeys(("incomplete_details", "instructions", "metadata", "previous_response_id"))
    return {**common, **options, **nothing, "output": [message], "usage": {**USAGE, **_DETAILS}}


def events_of(exchange: Exchange) -> list[dict[str, Any]]:
    """Return the events of a stream, but for its end."""
    model = exchange.body["model"]
    if exchange.path == "/v1/responses":
        where = {"item_id": "m1", "output_index": 0, "content_index": 0, "logprobs": []}
        deltas = [{"type": "response.output_text.delta", "delta": text, **where} for text in CHUNKS]
        done = {"type": "response.output_text.done", "text": TEXT, **where}
        item = response(model, "completed", TEXT)["output"][0]
        empty = {**item, "content": [], "status": "in_progress"}
        part = {"type": "response.content_part.added", "part": {"type": "output_text", "text": "", "annotations": []}, **where}
        begin = {"type": "response.created", "response": {**response(model, "in_progress", ""), "output": []}}
        added = {"type": "response.output_item.added", "output_index": 0, "item": empty}
        ended = {"type": "response.output_item.done", "output_index": 0, "item": item}
        events = [begin, added, part, *deltas, done, ended]
        return [{**event, "sequence_number": number} for number, event in enumerate(events)]
    common = {"id": "c1", "created": 1, "model": model}
    if exchange.path == "/v1/completions":
        choices = [{"index": 0, "text": text, "finish_reason": None, "logprobs": None} for text in CHUNKS]
        return [{**common, "object": "text_completion", "choices": [choice]} for choice in choices]
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in CHUNKS]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    return [{**common, "object": "chat.completion.chunk", "choices": [choice]} for choice in choices]


def frame(event: dict[str, Any]) -> bytes:
    """Return an event as it goes over the wire."""
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


async def answer(exchange: Exchange) -> None:
    """Answer as a healthy engine does."""
    body = exchange.body
    if not body.get("stream"):
        if exchange.path == "/v1/responses":
            await exchange.answer(200, json.dumps(response(body["model"], "completed", TEXT)).encode())
        else:
            await nodes.good(exchange)
        return
    await exchange.begin_stream()
    events = events_of(exchange)
    for event in events:
        await exchange.chunk(frame(event))
    if exchange.path == "/v1/responses":
        completed = {"type": "response.completed", "response": response(body["model"], "completed", TEXT)}
        await exchange.chunk(frame({**completed, "sequence_number": len(events)}))
        await exchange.chunk(b"")
    else:
        await exchange.end_stream()


async def breaks_off(exchange: Exchange) -> None:
    """Begin to answer and reset the connection; a stream gets as far as its first piece of text."""
    if not exchange.body.get("stream"):
        await nodes.answers_half(exchange)
        return
    await exchange.begin_stream()
    events = events_of(exchange)
    first = next(number for number, event in enumerate(events) if CHUNKS[0] in json.dumps(event))
    for event in events[: first + 1]:
        await exchange.chunk(frame(event))
    exchange.reset()


async def hangs(exchange: Exchange) -> None:
    """Say nothing until the router has left."""
    await exchange.node.released.wait()


class FaultyEngine:
    """The behaviour of a fake node."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._first: dict[str, Callable[[Exchange], Awaitable[None]]] = {
            "resets": nodes.resets,
            "garbles": nodes.talks_garbage,
            "halves": nodes.answers_half,
            "crashes": nodes.says(502, "engine_crashed"),
            "busy": nodes.says(503, "node_busy"),
            "silent": hangs,
        }
        self._always: dict[str, Callable[[Exchange], Awaitable[None]]] = {
            "dead": nodes.resets,
            "breaks": breaks_off,
            "overflow": nodes.says(400, "context_length_exceeded"),
        }

    async def __call__(self, exchange: Exchange) -> None:
        """Answer, or do what the model's name says: the first time only, or always."""
        model = exchange.body["model"]
        fault = model.partition(":")[0]
        self._seen[model] += 1
        if fault in self._first and self._seen[model] == 1:
            await self._first[fault](exchange)
        else:
            await self._always.get(fault, answer)(exchange)
        exchange.writer.close()  # some hundred models must not hold a connection each
