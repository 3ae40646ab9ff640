"""Nodes that answer, and nodes that misbehave in every way the router must survive. Real sockets, HTTP by hand."""

import asyncio
import base64
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

CHUNKS = ("Hel", "lo", "!")


@dataclass
class Exchange:
    """One request at a node, and the connection to answer it on."""

    node: "FakeNode"
    path: str
    headers: dict[str, str]
    raw: bytes
    writer: asyncio.StreamWriter

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.raw)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int, body: bytes, content_type: str = "application/json", extra: str = "") -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        await self.send(head.encode() + body)

    async def begin_stream(self) -> None:
        await self.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, delta: str, finish: str | None = None) -> None:
        choice = {"index": 0, "delta": {"content": delta}, "finish_reason": finish}
        data = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": self.body["model"], "choices": [choice]}
        await self.chunk(b"data: " + json.dumps(data).encode() + b"\n\n")

    async def end_stream(self) -> None:
        await self.chunk(b"data: [DONE]\n\n")
        await self.chunk(b"")

    def reset(self) -> None:
        """Break the connection with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


type Behaviour = Callable[[Exchange], Awaitable[None]]


async def good(exchange: Exchange) -> None:
    """Answer as a healthy node does."""
    if exchange.path == "/v1/embeddings":
        await exchange.answer(200, json.dumps(embedding(exchange.body)).encode())
    elif exchange.body.get("stream"):
        await exchange.begin_stream()
        for text in CHUNKS:
            await exchange.event(text)
        await exchange.event("", "stop")
        await exchange.end_stream()
    else:
        await exchange.answer(200, json.dumps(completion(exchange)).encode())


def completion(exchange: Exchange) -> dict[str, Any]:
    usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    common = {"id": "c1", "created": 1, "model": exchange.body["model"], "usage": usage}
    if exchange.path == "/v1/completions":
        return {**common, "object": "text_completion", "choices": [{"index": 0, "text": "Hello!", "finish_reason": "stop"}]}
    message = {"role": "assistant", "content": "Hello!"}
    return {**common, "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def embedding(body: dict[str, Any]) -> dict[str, Any]:
    vector: Any = [0.25, -0.5]
    if body.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack("<2f", *vector)).decode()
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    return {"object": "list", "model": body["model"], "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}


def says(status: int, code: str | None = None, extra: str = "") -> Behaviour:
    """Return a behaviour that answers with an error."""

    async def behave(exchange: Exchange) -> None:
        error = {"message": f"secret words of {exchange.node.id}", "type": "x", "param": None, "code": code}
        await exchange.answer(status, json.dumps({"error": error}).encode(), extra=extra)

    return behave


async def resets(exchange: Exchange) -> None:
    exchange.reset()


async def closes(exchange: Exchange) -> None:
    exchange.writer.close()


async def talks_garbage(exchange: Exchange) -> None:
    await exchange.send(b"\x00\xffnot http at all\r\n\r\n")
    exchange.writer.close()


async def hangs(exchange: Exchange) -> None:
    await exchange.node.released.wait()
    await good(exchange)


async def streams_then_silence(exchange: Exchange) -> None:
    await exchange.begin_stream()
    await exchange.node.released.wait()


async def comments_then_resets(exchange: Exchange) -> None:
    await exchange.begin_stream()
    await exchange.chunk(b": prefill\n\n")
    exchange.reset()


async def streams_then_resets(exchange: Exchange) -> None:
    await exchange.begin_stream()
    await exchange.event("Hel")
    await exchange.chunk(b'data: {"id": "c1", "cho')
    exchange.reset()


async def streams_without_end(exchange: Exchange) -> None:
    await exchange.begin_stream()
    await exchange.event("Hel")
    await exchange.chunk(b"")


async def streams_until_released(exchange: Exchange) -> None:
    await exchange.begin_stream()
    await exchange.event("Hel")
    await exchange.node.released.wait()
    await exchange.event("lo!", "stop")
    await exchange.end_stream()


async def answers_half(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n" + b'{"id": "c1"')
    exchange.reset()


@dataclass
class FakeNode:
    """A node on a port of its own.

    ``aborted``: requests whose connection the router closed before their end; ``connections``: how many were ever made.
    """

    id: str
    behave: Behaviour = good
    inference_key: str = "node-key"
    requests: list[Exchange] = field(default_factory=list)
    aborted: int = 0
    busy: int = 0
    connections: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _port: int = 0
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def connected(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen; a second start listens on the port of the first."""
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self._port, reuse_address=True)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections and break those that are open."""
        if self._server:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        self.connections += 1
        early = b""
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while not writer.is_closing():
                    early = await self._exchange(reader, writer, early)
        finally:
            writer.close()
            self._connections.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, early: bytes) -> bytes:
        """Answer one request; return the first byte of the next one if it came early."""
        head = (early + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers["content-length"]))
        exchange = Exchange(self, head[0].split()[1], headers, raw, writer)
        self.requests.append(exchange)
        self.busy += 1
        work, left = asyncio.ensure_future(self.behave(exchange)), asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.aborted += 1
        finally:
            self.busy -= 1
            work.cancel()
            left.cancel()
            _, ahead = await asyncio.gather(work, left, return_exceptions=True)
        if work.cancelled() or ahead == b"":
            writer.close()
        return ahead if isinstance(ahead, bytes) else b""
