"""Gives a model our name in the answers of an engine that knows it by another one."""

import json
from collections.abc import AsyncIterator

__all__ = ["renamed", "renamed_events"]

_EVENT_LIMIT_BYTES = 16 * 2**20


def renamed(document: bytes, model: str) -> bytes:
    """Return a JSON object with `model` as its model; what is none stays as it is."""
    try:
        answer = json.loads(document)
    except ValueError:
        return document
    if not isinstance(answer, dict) or "model" not in answer:
        return document
    return json.dumps(answer | {"model": model}, separators=(",", ":"), ensure_ascii=False).encode()


async def renamed_events(chunks: AsyncIterator[bytes], model: str) -> AsyncIterator[bytes]:
    """Yield a stream of server-sent events line by line, with `model` as the model of each.

    A line longer than any event is passed on as it comes.
    """
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield b"".join(_renamed_line(line, model) + b"\n" for line in lines)
        if len(rest) > _EVENT_LIMIT_BYTES:
            yield rest
            rest = b""
    if rest:
        yield _renamed_line(rest, model)


def _renamed_line(line: bytes, model: str) -> bytes:
    data = line.removeprefix(b"data:")
    return line if data == line else b"data: " + renamed(data.strip(), model)
