"""Bounds of uvicorn's connections, as API, dashboard and node serve them, at the wire."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from control_api.kit.bounds import Bounds
from control_api.kit.serving import Http
from control_api.kit.tasks import owned_task
from tests.running import serving
from tests.wire import HUGE_HEAD, MIB, Heard, drip, talk

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
GET = b"GET / HTTP/1.1\r\nhost: x\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
UPGRADE = (
    b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Quick(Http):
    """The same connection in a hurry."""

    bounds = replace(Bounds(), head_s=0.15, body_silence_s=0.15, body_s=0.3, stuck_s=0.15, linger_s=0.1, tick_s=0.02)


class Small(Http):
    """A connection of a process that may have two."""

    @staticmethod
    def room() -> int:
        """Two."""
        return 2


class Echo:
    """Answers with the headers and the body that it was given; ``/slow`` when it is told to; ``/endless`` without end."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = self.ended = 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self._socket(receive, send)
        elif scope["type"] == "http":
            self.begun += 1
            try:
                await self._answer(scope, receive, send)
            finally:
                self.ended += 1

    async def _until_gone(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _socket(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async def _answer(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await self.go.wait()
        body, more = b"", scope["path"] not in ("/early", "/endless")
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        named = sorted(name.decode() for name, _ in scope["headers"])
        answer = json.dumps({"headers": named, "body": len(body)}).encode()
        headers = [] if scope["path"] == "/endless" else [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["path"] == "/endless":
            async with owned_task(self._until_gone(receive), name="gone") as gone:
                while not gone.done():
                    await send({"type": "http.response.body", "body": b"x" * MIB, "more_body": True})
                    await asyncio.sleep(0)
            return
        await send({"type": "http.response.body", "body": answer})


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def url(echo: Echo) -> AsyncIterator[str]:
    async with serving(echo) as url:
        yield url


@pytest.fixture
async def quick(echo: Echo) -> AsyncIterator[str]:
    async with serving(echo, http=Quick) as url:
        yield url


def errors(heard: Heard) -> list[str]:
    """Return the codes of the errors that were said."""
    return re.findall(r'"code": "(\w+)"', heard.back.decode("latin-1"))


def flood(beginning: bytes, piece: bytes) -> Iterator[bytes]:
    """Yield a beginning and then 400 MiB of the same."""
    yield beginning
    for _ in range(400 * MIB // len(piece)):
        yield piece


FLOODS = {
    "400 headers of 1 MiB": HUGE_HEAD[:2],
    "small headers": (GET, b"x-a: b\r\n" * 4096),
    "a target": (b"GET /", b"a" * MIB),
    "a name": (GET, b"a" * MIB),
    "empty lines": (b"", b"\r\n" * 65536),
    "after a request": (GET + b"\r\n" + GET, b"x-a: " + b"a" * MIB + b"\r\n"),
    "after a body": (POST + b"content-length: 3\r\n\r\nabc" + GET, b"x-a: " + b"a" * MIB + b"\r\n"),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", b"x-a: " + b"a" * MIB + b"\r\n"),
    "an extension of a chunk": (CHUNKED + b"1;", b"a" * MIB),
    "an upgrade": (GET + UPGRADE, b"x-a: " + b"a" * MIB + b"\r\n"),
}


@pytest.mark.parametrize(("beginning", "piece"), FLOODS.values(), ids=FLOODS.keys())
async def test_a_head_without_end_is_cut_off_early(url: str, beginning: bytes, piece: bytes) -> None:
    heard = await talk(url, flood(beginning, piece))

    assert heard.closed
    assert heard.statuses[-1] == 431
    assert errors(heard) == ["request_header_fields_too_large"]
    assert heard.sent_bytes < 32 * MIB, "the rest stayed with the client"


@pytest.mark.parametrize(("lines", "status"), [(126, 200), (127, 200), (128, 431)])
async def test_a_head_has_so_many_lines(url: str, lines: int, status: int) -> None:
    heard = await talk(url, [GET + b"x-a: b\r\n" * lines + b"\r\n"], lambda back: b"}" in back)
    assert heard.statuses == [status]


async def test_trailers_are_lines_too_and_no_headers(url: str) -> None:
    many = await talk(url, [CHUNKED + b"0\r\n" + b"x-a: b\r\n" * 200 + b"\r\n"])
    few = await talk(url, [CHUNKED + b"0\r\nauthorization: Bearer x\r\n\r\n"], lambda back: b"}" in back)
    assert many.statuses == [431]
    assert few.statuses == [200]
    assert b"authorization" not in few.back


STRANGE = {
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"host: y\r\n\r\n",
    "two hosts of an old client": b"GET / HTTP/1.0\r\nhost: x\r\nhost: y\r\n\r\n",
    "a host that is none": b"GET / HTTP/1.1\r\nhost: x/y z\r\n\r\n",
    "another version": b"GET / HTTP/2.0\r\nhost: x\r\n\r\n",
    "a target that is not ASCII": b"GET /\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n",
    "an upgrade whose target is not ASCII": b"GET /\xc3\xa9 HTTP/1.1\r\nhost: x\r\n" + UPGRADE + b"\r\n",
    "an upgrade without host": b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n",
    "an upgrade by POST": POST + UPGRADE + b"\r\n",
    "an upgrade with a long line": GET + UPGRADE + b"x-a: " + b"a" * 9000 + b"\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a tunnel": b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    "length and chunked": POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a size that is no number": CHUNKED + b"zz\r\n",
}


@pytest.mark.parametrize("sent", STRANGE.values(), ids=STRANGE.keys())
async def test_what_is_no_request_gets_one_refusal(url: str, sent: bytes) -> None:
    heard = await talk(url, [sent])
    assert (heard.statuses, heard.closed) in (([400], True), ([405], True))


PROPER = {
    "usual": GET + b"\r\n",
    "of an old client": b"GET / HTTP/1.0\r\n\r\n",
    "with an empty host": b"GET / HTTP/1.1\r\nhost:\r\n\r\n",
    "with an address": b"GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n",
    "after empty lines": b"\r\n\r\n" + GET + b"\r\n",
    "as a proxy is asked": b"GET http://x/ HTTP/1.1\r\nhost: x\r\n\r\n",
    "with an upgrade of another kind": GET + b"upgrade: h2c\r\nconnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("sent", PROPER.values(), ids=PROPER.keys())
async def test_what_is_one_is_answered(url: str, sent: bytes) -> None:
    heard = await talk(url, [sent], lambda back: b"}" in back)
    assert heard.statuses == [200]


@pytest.mark.parametrize(("beginning", "drop"), [
    (b"GET /", b"x"), (GET, b"x"), (b"", b"\r\n"), (GET, b"x: y\r\n"), (GET + b"\r\n" + GET, b"x"), (GET + UPGRADE, b"x"),
], ids=["target", "name", "empty lines", "lines", "a second one", "an upgrade"])  # fmt: skip
async def test_a_head_that_does_not_end_is_refused_however_it_comes(quick: str, beginning: bytes, drop: bytes) -> None:
    heard = await drip(quick, beginning, drop)
    assert heard.statuses[-1] == 408
    assert errors(heard) == ["request_timeout"]


async def test_a_connection_that_says_nothing_is_closed(quick: str) -> None:
    heard = await talk(quick, [])
    assert (heard.back, heard.closed) == (b"", True)


UNENDING = {
    "length": POST + b"content-length: 9\r\n\r\nabc",
    "chunks": CHUNKED + b"3\r\nabc\r\n",
    "trailers": CHUNKED + b"0\r\nx-a: b\r\n",
}


@pytest.mark.parametrize("sent", UNENDING.values(), ids=UNENDING.keys())
async def test_a_body_that_stops_is_refused(quick: str, echo: Echo, sent: bytes) -> None:
    heard = await talk(quick, [sent])
    assert (heard.statuses, errors(heard)) == ([408], ["request_timeout"])
    assert echo.begun == echo.ended == 1, "whoever waited for the body was told"


async def test_a_body_that_trickles_is_refused(quick: str) -> None:
    heard = await drip(quick, POST + b"content-length: 100000\r\n\r\n", b"x")
    assert heard.statuses == [408]


async def test_an_answer_may_take_its_time(quick: str, echo: Echo) -> None:
    """Neither the deadline of a head nor that of a body runs while it is we who think."""
    asyncio.get_running_loop().call_later(0.6, echo.go.set)
    body = b"content-length: 3\r\n\r\nabc"
    heard = await talk(quick, [b"POST /slow HTTP/1.1\r\nhost: x\r\n" + body], lambda back: b"}" in back)
    assert heard.statuses == [200]


async def test_a_refusal_waits_for_the_answers_before_it(url: str, echo: Echo) -> None:
    slow = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"
    asyncio.get_running_loop().call_later(0.1, echo.go.set)
    heard = await talk(url, [slow + GET + b"\r\n" + b"GET / HTTP/1.1\r\n\r\n"])
    assert heard.statuses == [200, 200, 400]
    assert heard.back.index(b'"body": 0') < heard.back.index(b"bad_http")


async def test_requests_in_a_row_are_answered_in_order_and_held_back_meanwhile(url: str, echo: Echo) -> None:
    slow = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"
    asyncio.get_running_loop().call_later(0.1, echo.go.set)
    heard = await talk(url, [slow + (GET + b"\r\n") * 700], lambda back: back.count(b"}") == 701)
    assert heard.statuses == [200] * 701


async def test_requests_without_end_are_not_kept_while_one_is_answered(url: str, echo: Echo) -> None:
    slow = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"
    asyncio.get_running_loop().call_later(0.3, echo.go.set)
    heard = await talk(url, flood(slow, (GET + b"\r\n") * 40_000), lambda back: b"HTTP" in back)
    assert heard.sent_bytes < 32 * MIB
    assert echo.begun < 500


async def test_a_client_that_leaves_ends_its_request_even_with_another_behind_it(url: str, echo: Echo) -> None:
    endless = b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n"
    await talk(url, [endless + GET + b"\r\n"], lambda back: len(back) > MIB)
    async with asyncio.timeout(10):
        while echo.ended < 1:
            await asyncio.sleep(0.01)


async def test_a_refusal_that_nobody_waits_for_is_no_fault_of_the_application() -> None:
    gone = asyncio.Event()
    ended: asyncio.Queue[Exception | None] = asyncio.Queue()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await gone.wait()
        try:
            await send({"type": "http.response.body"})
        except OSError as error:
            await ended.put(error)
        await ended.put(None)

    async with serving(app) as url:
        where = urlsplit(url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(GET + b"\r\n" + b"GET / HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"\r\n\r\nx")
        writer.close()
        await writer.wait_closed()
        gone.set()
        assert await asyncio.wait_for(ended.get(), 10) is None


async def test_a_client_that_reads_nothing_is_given_up(quick: str, echo: Echo) -> None:
    where = urlsplit(quick)
    _, writer = await asyncio.open_connection(where.hostname, where.port, limit=1)
    writer.write(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(10):
        while echo.ended < 1:
            await asyncio.sleep(0.01)
    writer.close()


async def test_a_body_that_goes_on_after_its_answer_is_cut_off(url: str) -> None:
    head = b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n"
    heard = await talk(url, flood(head, b"x" * MIB))
    assert (heard.statuses, heard.closed) == ([200], True)
    assert heard.sent_bytes < 64 * MIB


async def test_an_upgrade_waits_for_nobody(url: str, echo: Echo) -> None:
    slow = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"
    asyncio.get_running_loop().call_later(0.1, echo.go.set)
    heard = await talk(url, [slow + GET + UPGRADE + b"\r\n"])
    assert heard.statuses == [200, 400]


async def test_too_many_connections_are_told_so(echo: Echo) -> None:
    async with serving(echo, http=Small) as url:
        where = urlsplit(url)
        kept = [await asyncio.open_connection(where.hostname, where.port) for _ in range(2)]
        refused = await talk(url, [])
        kept[0][1].write(GET + b"\r\n")
        answered = await kept[0][0].readuntil(b"}")
        for _, writer in kept:
            writer.close()
    assert (refused.statuses, errors(refused)) == ([503], ["too_many_connections"])
    assert answered.startswith(b"HTTP/1.1 200 ")


async def test_a_message_is_neither_too_large_nor_in_too_many_pieces(url: str) -> None:
    async def pieces() -> AsyncIterator[str]:
        while True:
            yield ""
            await asyncio.sleep(0)

    ws = url.replace("http", "ws")
    async with connect(ws) as large:
        assert "permessage-deflate" not in large.response.headers.get("sec-websocket-extensions", "")  # type: ignore[union-attr]
        with pytest.raises(ConnectionClosed) as closed:
            await large.send("x" * 100_000)
            await large.recv()
    assert closed.value.rcvd and closed.value.rcvd.code == 1009
    async with connect(ws) as many:
        with pytest.raises(ConnectionClosed) as closed:
            await many.send(pieces())
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1009


def test_the_node_has_the_same_files() -> None:
    for name in ("bounds.py", "connection.py", "redirects.py"):
        ours = (ROOT / "control_api/kit" / name).read_text()
        node = (ROOT / "node_service" / name).read_text()
        assert node == ours.replace("control_api.kit", "node_service")
