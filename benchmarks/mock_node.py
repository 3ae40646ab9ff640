"""A node that answers at once: honest HTTP/1.1, far faster than any router in front of it.

One process serves every port given; each port is one node. What a request wants stands in its own text, which every
router passes through: ``delay_ms=N`` before the answer, ``chunks=N`` events of a stream, ``interval_ms=N`` between two.
Run alone: ``python -m benchmarks.mock_node 18001 18002``.
"""

import asyncio
import json
import re
import sys
from typing import Any, cast

import httptools
import uvloop

MODEL = "bench-model"
CHUNKS, INTERVAL_MS = 64, 20
USAGE = {"prompt_tokens": 200, "completion_tokens": 64, "total_tokens": 264}
_KNOBS = {name: re.compile(rb"\b" + name.encode() + rb"=(\d+)") for name in ("delay_ms", "chunks", "interval_ms")}
_STREAM = re.compile(rb'"stream"\s*:\s*true')


def _answer(content: Any) -> bytes:
    body = json.dumps(content, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _event(data: str) -> bytes:
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
    return _event(json.dumps(chunk, separators=(",", ":")))


_MESSAGE = {"index": 0, "message": {"role": "assistant", "content": "x" * 400}, "finish_reason": "stop"}
_CHAT = _answer(
    {"id": "chatcmpl-mock", "object": "chat.completion", "created": 1, "model": MODEL, "usage": USAGE, "choices": [_MESSAGE]}
)
_VECTOR = {"object": "embedding", "index": 0, "embedding": [round(i / 1537, 8) for i in range(1536)]}
_EMBEDDING = _answer({"object": "list", "model": MODEL, "usage": USAGE, "data": [_VECTOR]})
_MODELS = _answer({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "mock"}]})
_HEALTH = _answer({"status": "ok"})
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_FIRST, _NEXT = _chunk({"role": "assistant", "content": "tok0 "}), _chunk({"content": "token "})
_LAST = _chunk({}, "stop") + _event("[DONE]") + b"0\r\n\r\n"


class Node(asyncio.Protocol):
    """One connection of a router. ``live``: requests that are not answered to their end, over all connections."""

    live = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.timer: asyncio.TimerHandle | None = None
        self.busy = False
        self.parser = httptools.HttpRequestParser(self)
        self.loop = asyncio.get_running_loop()

    def connection_lost(self, _error: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()
        self._done()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_message_begin(self) -> None:
        self.url, self.body = b"", b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.busy = True
        Node.live += 1
        if delay_ms := self._knob("delay_ms", 0):
            self.timer = self.loop.call_later(delay_ms / 1000, self._reply)
        else:
            self._reply()

    def _knob(self, name: str, default: int) -> int:
        found = _KNOBS[name].search(self.body) if b"=" in self.body else None
        return int(found[1]) if found else default

    def _reply(self) -> None:
        if self.url.endswith(b"/completions") and _STREAM.search(self.body):
            self._begin_stream()
            return
        self._done()
        if self.url == b"/live":
            self.transport.write(_answer({"live": Node.live}))
        else:
            end = self.url.rsplit(b"/", 1)[-1]
            self.transport.write({b"completions": _CHAT, b"embeddings": _EMBEDDING, b"models": _MODELS}.get(end, _HEALTH))

    def _done(self) -> None:
        Node.live -= self.busy
        self.busy = False

    def _begin_stream(self) -> None:
        self.left, self.interval_s = self._knob("chunks", CHUNKS) - 1, self._knob("interval_ms", INTERVAL_MS) / 1000
        self.due = self.loop.time() + self.interval_s
        self.transport.write(_STREAM_HEAD + _FIRST)
        self.timer = self.loop.call_at(self.due, self._next)

    def _next(self) -> None:
        self.left -= 1
        if self.left < 0:
            self._done()
            self.transport.write(_LAST)
            return
        self.transport.write(_NEXT)
        self.due += self.interval_s
        self.timer = self.loop.call_at(self.due, self._next)


async def serve(ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Node, "127.0.0.1", port, backlog=4096) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    uvloop.run(serve([int(port) for port in sys.argv[1:]]))
