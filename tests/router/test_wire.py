"""HTTP that tries to be read in two ways, or never to end: refused on both sides, so that nothing can be smuggled."""

import asyncio
import re
from collections.abc import Callable

import httpx2
import pytest

from tests import wire
from tests.router import nodes
from tests.router.fleet import CHAT, KEY, Fleet, chat, eventually
from tests.router.nodes import Behaviour, Exchange, FakeNode

pytestmark = pytest.mark.anyio

JSON = b"content-type: application/json\r\n"
BODY = b'{"model":"test:1b","messages":[]}'
CHUNKED = b"transfer-encoding: chunked\r\n"
LENGTH = b"content-length: %d\r\n" % len(BODY)
PIECE = b"%x\r\n%b\r\n" % (len(BODY), BODY)

HOSTILE_ANSWERS = {
    "length and chunked": LENGTH + CHUNKED + b"\r\n" + PIECE + b"0\r\n\r\n",
    "chunked and length": CHUNKED + LENGTH + b"\r\n" + PIECE + b"0\r\n\r\n",
    "two lengths": LENGTH + b"content-length: 5\r\n\r\n" + BODY,
    "the same length twice": LENGTH + LENGTH + b"\r\n" + BODY,
    "a signed length": b"content-length: +33\r\n\r\n" + BODY,
    "a folded header": b"x-a: b\r\n c\r\n" + LENGTH + b"\r\n" + BODY,
    "bare line feeds": LENGTH.replace(b"\r\n", b"\n") + b"\n" + BODY,
    "a space before the colon": b"content-length : 33\r\n\r\n" + BODY,
    "a size that is no number": CHUNKED + b"\r\nzz\r\n" + BODY,
    "a bare line feed in an extension": CHUNKED + b"\r\n21;a\n" + BODY + b"\r\n0\r\n\r\n",
    "a piece without its end": CHUNKED + b"\r\n%x\r\n%b0\r\n\r\n" % (len(BODY), BODY),
    "no frame": b"\r\n" + BODY,
    "too long a head": b"x-a: " + b"a" * 200_000 + b"\r\n" + LENGTH + b"\r\n" + BODY,
    "too many headers": b"x-a: b\r\n" * 20_000 + LENGTH + b"\r\n" + BODY,
    "trailers without end": CHUNKED + b"\r\n" + PIECE + b"0\r\n" + b"x-a: b\r\n" * 40_000,
}


def raw(head_and_body: bytes, status: bytes = b"200 OK") -> Behaviour:
    """Return a node that sends these bytes and closes."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 " + status + b"\r\n" + JSON + head_and_body)
        exchange.writer.close()

    return behave


@pytest.mark.parametrize("sent", HOSTILE_ANSWERS.values(), ids=HOSTILE_ANSWERS.keys())
async def test_an_answer_that_can_be_read_in_two_ways_is_none(fleet: Fleet, sent: bytes) -> None:
    await fleet.node(raw(sent))
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat())
        in_flight = await fleet.in_flight()

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert in_flight == 0


async def test_an_upgrade_is_no_answer(fleet: Fleet) -> None:
    await fleet.node(raw(b"upgrade: x\r\nconnection: upgrade\r\n\r\n" + BODY, b"101 Switching Protocols"))
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat())

    assert answer.status_code == 502


@pytest.mark.parametrize("sent", [
    CHUNKED + b"\r\n" + PIECE.replace(b"\r\n", b";a=b\r\n", 1) + b"0\r\nx-trailer: 1\r\n\r\n",
    b"connection: close\r\n" + LENGTH + b"\r\n" + BODY,
], ids=["extension and trailer", "closes afterwards"])  # fmt: skip
async def test_unusual_but_proper_answers_are_passed_on(fleet: Fleet, sent: bytes) -> None:
    await fleet.node(raw(sent))
    async with fleet.router() as http:
        answers = [await http.post(CHAT, json=chat()) for _ in range(2)]

    assert [(answer.status_code, answer.content) for answer in answers] == [(200, BODY)] * 2


async def test_informational_answers_are_passed_over(fleet: Fleet) -> None:
    async def hints(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\ncontent-type: text/html\r\n\r\n")
        await nodes.good(exchange)

    await fleet.node(hints)
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat())

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")


async def test_a_stream_may_end_with_its_connection_if_it_says_done(fleet: Fleet) -> None:
    async def old(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {}\n\ndata: [DONE]\n\n")
        exchange.writer.close()

    await fleet.node(old)
    async with fleet.router() as http:
        answer = await http.post(CHAT, json=chat(stream=True))

    assert answer.text == "data: {}\n\ndata: [DONE]\n\n"


async def test_a_second_answer_is_not_taken_for_the_next_one(fleet: Fleet) -> None:
    """What a node sends beyond its answer must not answer somebody else's request."""
    poison = b"HTTP/1.1 200 OK\r\n" + JSON + b"content-length: 8\r\n\r\npoisoned"

    async def twice(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n" + JSON + LENGTH + b"\r\n" + BODY + poison)

    await fleet.node(twice)
    async with fleet.router() as http:
        answers = [await http.post(CHAT, json=chat()) for _ in range(5)]

    assert {answer.content for answer in answers} == {BODY}


async def test_connections_are_kept_and_closed_when_the_node_is_removed(fleet: Fleet) -> None:
    node = await fleet.node()
    async with fleet.router() as http:
        for _ in range(5):
            await http.post(CHAT, json=chat())
        used = node.connections
        fleet.source.change(nodes={}, models={})
        await eventually(lambda: not node.connected)

    assert used == 1


async def test_a_slow_reader_slows_the_node_and_loses_nothing(fleet: Fleet) -> None:
    event = b"data: " + b"x" * 1_000_000 + b"\n\n"
    sent = 0
    stuck = asyncio.Event()

    async def floods(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.begin_stream()
        for _ in range(60):
            try:
                async with asyncio.timeout(0.5):
                    await exchange.chunk(event)
            except TimeoutError:
                stuck.set()
                await exchange.writer.drain()
            sent += 1
        await exchange.end_stream()

    await fleet.node(floods)
    async with fleet.router() as http, http.stream("POST", CHAT, json=chat(stream=True)) as answer:
        async with asyncio.timeout(20):
            await stuck.wait()
        held = sent
        size = sum([len(piece) async for piece in answer.aiter_raw()])

    assert held < 40, "the router held the node back"
    assert size == 60 * len(event) + len(b"data: [DONE]\n\n")


AUTH = b"authorization: Bearer " + KEY.encode() + b"\r\n"
POST = b"POST " + CHAT.encode() + b" HTTP/1.1\r\nhost: x\r\n" + AUTH

HOSTILE_REQUESTS = {
    "length and chunked": POST + LENGTH + CHUNKED + b"\r\n" + PIECE + b"0\r\n\r\n",
    "chunked and length": POST + CHUNKED + LENGTH + b"\r\n" + PIECE + b"0\r\n\r\n",
    "two lengths": POST + LENGTH + b"content-length: 5\r\n\r\n" + BODY,
    "a signed length": POST + b"content-length: +33\r\n\r\n" + BODY,
    "a folded header": POST + b"x-a: b\r\n c\r\n" + LENGTH + b"\r\n" + BODY,
    "bare line feeds": (POST + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "a space before the colon": POST + b"content-length : 33\r\n\r\n" + BODY,
    "chunked is not last": POST + b"transfer-encoding: chunked, identity\r\n\r\n" + PIECE + b"0\r\n\r\n",
    "an unknown coding": POST + b"transfer-encoding: xchunked\r\n\r\n" + PIECE + b"0\r\n\r\n",
    "a size that is no number": POST + CHUNKED + b"\r\nzz\r\n" + BODY,
    "a bare line feed in an extension": POST + CHUNKED + b"\r\n21;a\n" + BODY + b"\r\n0\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


async def talk(fleet: Fleet, data: bytes, until: Callable[[bytes], bool] = lambda _: False) -> bytes:
    """Send bytes to the router and return what comes back until it closes, or until there is enough."""
    host, port = fleet.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    back = b""
    async with asyncio.timeout(10):
        while not until(back) and (piece := await reader.read(65536)):
            back += piece
    writer.close()
    return back


@pytest.mark.parametrize("sent", HOSTILE_REQUESTS.values(), ids=HOSTILE_REQUESTS.keys())
async def test_a_request_that_can_be_read_in_two_ways_is_refused(fleet: Fleet, sent: bytes) -> None:
    node = await fleet.node()
    async with fleet.router():
        back = await talk(fleet, sent)

    assert back.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"bad_http"' in back
    assert b"connection: close" in back
    assert back.count(b"HTTP/1.1") == 1
    assert node.requests == []


async def test_extensions_and_trailers_stay_at_the_door(fleet: Fleet) -> None:
    node = await fleet.node()
    piece = PIECE.replace(b"\r\n", b";evil=1\r\n", 1)
    async with fleet.router():
        back = await talk(fleet, POST + CHUNKED + b"\r\n" + piece + b"0\r\nx-t: 1\r\n\r\n", lambda back: b"}" in back)

    assert back.startswith(b"HTTP/1.1 200 ")
    [exchange] = node.requests
    assert exchange.raw == BODY
    assert "transfer-encoding" not in exchange.headers


async def test_requests_in_a_row_are_answered_in_order(fleet: Fleet) -> None:
    """Pipelining: the second one waits for the first one's answer, and each is checked for itself."""
    node = await fleet.node()
    second = POST.replace(AUTH, b"authorization: Bearer mk_wrong\r\n") + LENGTH + b"\r\n" + BODY
    async with fleet.router():
        back = await talk(fleet, POST + LENGTH + b"\r\n" + BODY + second, lambda back: b"invalid_api_key" in back)

    assert re.findall(rb"HTTP/1.1 (\d+)", back) == [b"200", b"401"]
    assert len(node.requests) == 1


async def test_a_request_hidden_in_a_body_is_a_body(fleet: Fleet) -> None:
    node: FakeNode = await fleet.node()
    hidden = b'{"model":"test:1b","x":"' + b"GET /v1/models HTTP/1.1" + b'"}'
    async with fleet.router() as http:
        answer: httpx2.Response = await http.post(CHAT, content=hidden)

    assert answer.status_code == 200
    assert [exchange.raw for exchange in node.requests] == [hidden]


@pytest.mark.parametrize("sent", [
    b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * 200_000 + b"\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"x-a: b\r\n" * 20_000 + b"\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"x-a: b\r\n" * 129 + b"\r\n",
    POST + CHUNKED + b"\r\n" + PIECE + b"0\r\n" + b"x-a: b\r\n" * 129 + b"\r\n",
    POST + CHUNKED + b"\r\n1;" + b"a" * 200_000,
], ids=["one header", "many headers", "target", "one line too many", "trailers", "an extension of a chunk"])  # fmt: skip
async def test_a_head_without_end_is_refused(fleet: Fleet, sent: bytes) -> None:
    async with fleet.router():
        back = await talk(fleet, sent)

    assert back.startswith(b"HTTP/1.1 431 ")
    assert b'"code":"request_header_fields_too_large"' in back


async def test_of_a_head_without_end_little_is_read(fleet: Fleet) -> None:
    async with fleet.router():
        heard = await wire.talk(fleet.url, wire.HUGE_HEAD)

    assert (heard.statuses, heard.closed) == ([431], True)
    assert heard.sent_bytes < 32 * wire.MIB


HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize("beginning", [b"GET /", HEALTH + b"x-", HEALTH + b"\r\nGET /"],
                         ids=["target", "name", "a second one"])  # fmt: skip
async def test_a_head_that_trickles_is_refused_after_its_time(fleet: Fleet, beginning: bytes) -> None:
    async with fleet.router(head_timeout_s=0.2):
        heard = await wire.drip(fleet.url, beginning, b"x")

    assert heard.statuses[-1] == 408
    assert b'"code":"request_timeout"' in heard.back


async def test_a_connection_that_says_nothing_is_closed(fleet: Fleet) -> None:
    async with fleet.router(head_timeout_s=0.2):
        heard = await wire.talk(fleet.url, [])

    assert (heard.back, heard.closed) == (b"", True)


async def test_an_old_client_gets_no_chunks(fleet: Fleet) -> None:
    """HTTP/1.0 knows no chunked coding; nginx speaks it to what is behind it unless told otherwise."""
    await fleet.node()
    body = BODY[:-1] + b',"stream":true}'
    async with fleet.router():
        back = await talk(fleet, POST.replace(b"1.1", b"1.0") + b"content-length: %d\r\n\r\n" % len(body) + body)

    head, _, events = back.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert events.startswith(b"data: {")
    assert events.endswith(b"data: [DONE]\n\n")


async def test_a_client_that_expects_to_be_asked_is_asked(fleet: Fleet) -> None:
    """As curl does for large bodies: first the head alone, the rest only once the router wants it."""
    node = await fleet.node()
    async with fleet.router():
        host, port = fleet.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(POST + LENGTH + b"expect: 100-continue\r\n\r\n")
        asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(BODY)
        answered = await reader.readuntil(b"\r\n")
        writer.close()

    assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answered == b"HTTP/1.1 200 OK\r\n"
    assert node.requests[0].raw == BODY


async def test_an_early_refusal_reaches_a_client_that_still_sends(fleet: Fleet) -> None:
    async with fleet.router():
        head = POST.replace(AUTH, b"authorization: Bearer mk_wrong\r\n") + b"content-length: 50000000\r\n\r\n"
        back = await talk(fleet, head + b"x" * 1_000_000, lambda back: b"}}" in back)

    assert back.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in back


async def test_a_request_that_stops_halfway_is_told_so(fleet: Fleet) -> None:
    node = await fleet.node()
    async with fleet.router(body_timeout_s=0.2):
        back = await talk(fleet, POST + LENGTH + b"\r\n" + BODY[:-1])

    assert back.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in back
    assert b'"request_timeout"' in back
    assert node.requests == []


async def test_many_requests_in_a_row_are_all_answered(fleet: Fleet) -> None:
    async with fleet.router():
        back = await talk(fleet, (HEALTH + b"\r\n") * 3000, lambda back: back.count(b"HTTP/1.1 200 OK") == 3000)

    assert back.count(b'"ready": true') == 3000


async def test_too_many_connections_are_told_so_and_take_nobody_s_place(fleet: Fleet) -> None:
    await fleet.node()
    async with fleet.router(connection_limit=2) as http:
        first = await http.post(CHAT, json=chat())
        _, idle = await asyncio.open_connection("127.0.0.1", http.base_url.port)
        refused = await wire.talk(fleet.url, [])
        second = await http.post(CHAT, json=chat())
        idle.close()

    assert refused.statuses == [503]
    assert b'"code":"too_many_connections"' in refused.back
    assert (first.status_code, second.status_code) == (200, 200)
