"""What anybody may send to the router before it has looked at who they are: one head in one reading, and bodies that end."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from tests import wire
from tests.router import nodes
from tests.router.fleet import CHAT, KEY, Fleet, chat, eventually

pytestmark = pytest.mark.anyio

GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"
POST = b"POST %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n" % (CHAT.encode(), KEY.encode())
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
BODY = json.dumps(chat()).encode()
WHOLE = POST + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
UPGRADE = b"connection: upgrade\r\nupgrade: websocket\r\n"

STRANGE = {
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"host: y\r\n\r\n",
    "the same host twice": GET + b"Host: x\r\n\r\n",
    "two hosts of an old client": b"GET /healthz HTTP/1.0\r\nhost: x\r\nhost: y\r\n\r\n",
    "a host that is none": b"GET /healthz HTTP/1.1\r\nhost: a b\r\n\r\n",
    "an older version": b"GET /healthz HTTP/0.9\r\nhost: x\r\n\r\n",
    "a newer version": b"GET /healthz HTTP/2.0\r\nhost: x\r\n\r\n",
    "no version": b"GET /healthz\r\n\r\n",
    "a target that is not ASCII": b"GET /\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n",
    "an upgrade without host": b"GET /healthz HTTP/1.1\r\n" + UPGRADE + b"\r\n",
    "a body without host": WHOLE.replace(b"host: x\r\n", b""),
}


@pytest.mark.parametrize("sent", STRANGE.values(), ids=STRANGE.keys())
async def test_what_is_no_request_gets_one_refusal_and_nothing_behind_it_an_answer(fleet: Fleet, sent: bytes) -> None:
    node = await fleet.node()
    async with fleet.router():
        heard = await wire.talk(fleet.url, [sent + GET + b"\r\n"])

    assert (heard.statuses, heard.closed) == ([400], True)
    assert b'{"error":{"message":"' in heard.back
    assert b'"type":"invalid_request_error","param":null,"code":"bad_http"}}' in heard.back
    assert node.requests == []


async def test_a_head_of_too_many_lines_is_not_passed_over_for_the_next(fleet: Fleet) -> None:
    async with fleet.router():
        heard = await wire.talk(fleet.url, [GET + b"x-a: b\r\n" * 128 + b"\r\n" + GET + b"\r\n"])

    assert (heard.statuses, heard.closed) == ([431], True)


async def test_a_refusal_comes_after_the_answers_before_it(fleet: Fleet) -> None:
    async with fleet.router():
        heard = await wire.talk(fleet.url, [GET + b"\r\n" + STRANGE["no host"]])

    assert heard.statuses == [200, 400]


PROPER = {
    "of an old client": b"GET /healthz HTTP/1.0\r\n\r\n",
    "with an empty host": b"GET /healthz HTTP/1.1\r\nhost:\r\n\r\n",
    "with an address": b"GET /healthz HTTP/1.1\r\nhost: [::1]:80\r\n\r\n",
    "after empty lines": b"\r\n\r\n" + GET + b"\r\n",
    "as a proxy is asked": b"GET http://x/healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    "with a host behind its body": CHUNKED + b"%x\r\n%b\r\n0\r\nhost: y\r\n\r\n" % (len(BODY), BODY),
}


@pytest.mark.parametrize("sent", PROPER.values(), ids=PROPER.keys())
async def test_what_is_one_is_answered(fleet: Fleet, sent: bytes) -> None:
    await fleet.node()
    async with fleet.router():
        heard = await wire.talk(fleet.url, [sent], lambda back: b"}" in back)

    assert heard.statuses == [200]


@pytest.mark.parametrize(("size_bytes", "status"), [(1 << 16, 200), ((1 << 16) + 1, 431), (70_000, 431)])
async def test_a_head_has_64_kib(fleet: Fleet, size_bytes: int, status: int) -> None:
    head = GET + b"x-a: " + b"a" * (size_bytes - len(GET) - len(b"x-a: \r\n\r\n")) + b"\r\n\r\n"
    async with fleet.router():
        heard = await wire.talk(fleet.url, [head], lambda back: b"}" in back)

    assert (len(head), heard.statuses) == (size_bytes, [status])


UNENDING = {
    "a body": (POST + b"content-length: 100000\r\n\r\n", b"x"),
    "chunks": (CHUNKED, b"1\r\nx\r\n"),
    "an extension of a chunk": (CHUNKED + b"1;", b"x"),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\nx-a: ", b"x"),
}


@pytest.mark.parametrize(("beginning", "drop"), UNENDING.values(), ids=UNENDING.keys())
async def test_a_body_that_trickles_is_refused(fleet: Fleet, beginning: bytes, drop: bytes) -> None:
    node = await fleet.node()
    async with fleet.router(body_s=0.3):
        heard = await wire.drip(fleet.url, beginning, drop)

    assert heard.statuses == [408]
    assert b'"code":"request_timeout"' in heard.back
    assert node.requests == []


async def test_a_body_may_take_its_time_at_a_fair_rate(fleet: Fleet) -> None:
    """Each of these pieces is worth a second."""
    await fleet.node()
    pieces = [BODY[:-1], *[b" " * 1024] * 12, b"}"]
    async with fleet.router(body_s=0.2):
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(fleet.url).port)
        writer.write(POST + b"content-length: %d\r\n\r\n" % sum(map(len, pieces)))
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.05)
        answered = await reader.readuntil(b"\r\n")
        writer.close()

    assert answered == b"HTTP/1.1 200 OK\r\n"


async def test_an_answer_may_take_its_time(fleet: Fleet) -> None:
    """What runs is the time in which bytes are waited for, not that in which a node thinks."""
    node = await fleet.node(nodes.hangs)
    async with fleet.router(body_s=0.1, body_timeout_s=0.1):
        asyncio.get_running_loop().call_later(0.6, node.released.set)
        heard = await wire.talk(fleet.url, [WHOLE], lambda back: b"}" in back)

    assert heard.statuses == [200]


async def test_a_body_that_is_not_read_takes_none_of_its_time(fleet: Fleet) -> None:
    """The second request waits behind the first, and nothing of it is read meanwhile."""
    node = await fleet.node(nodes.hangs)
    async with fleet.router(body_s=0.4, body_timeout_s=0.4):
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(fleet.url).port)
        writer.write(WHOLE + WHOLE[:-1])
        await eventually(lambda: node.busy)
        asyncio.get_running_loop().call_later(1.2, node.released.set)
        first = await reader.readuntil(b"\r\n")
        writer.write(WHOLE[-1:])
        second = await reader.readuntil(b"HTTP/1.1 200 OK\r\n")
        writer.close()

    assert first == b"HTTP/1.1 200 OK\r\n"
    assert second
