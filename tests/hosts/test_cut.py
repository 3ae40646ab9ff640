"""A host that is cut off says nothing at all: no refusal, no reset. Requests go on elsewhere, and streams end with an error."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from control_api.router.table import RouteNode, RouteTarget
from tests.hosts.lab import Host, Lab
from tests.router.fleet import CHAT, MODEL, OPERATOR, Fleet, bearer, chat

pytestmark = pytest.mark.anyio

PORT = 8090
# The router's limits of silence are a minute and more; the kernel must have noticed before.
BEFORE_SILENCE_COUNTS_S = 50
# Answers at once, or, if a stream is asked for, with one event every 0.2 s without end.
NODE = """
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        stream = b'"stream":true' in body.replace(b" ", b"")
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if stream else "application/json")
        if not stream:
            self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}" if not stream else b"")
        while stream:
            self.wfile.write(b'data: {"choices": []}\\n\\n')
            time.sleep(0.2)
http.server.ThreadingHTTPServer(("", 8090), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[Host]:
    """A host with a node's port."""
    made = lab.boot("cut1", "trixie", route=False)
    lab.wait()
    made.run("systemd-run", "--quiet", "--unit=node", "python3", "-c", NODE)
    yield made
    lab.remove_hosts()


@pytest.fixture
async def fleet(anyio_backend: Any, host: Host) -> AsyncIterator[Fleet]:
    """A fleet of one node here and one on the host."""
    made = Fleet()
    await made.node()
    far = RouteNode("far", "far", f"http://{host.address}:{PORT}", "node-key", "online", "open", False)
    targets = (*made.table.models[MODEL], RouteTarget("far", True, 4, "ready", 0, 0))
    made.source.change(nodes={**made.table.nodes, "far": far}, models={MODEL: targets})
    yield made
    await made.close()


async def test_a_host_that_is_cut_off_costs_no_request(fleet: Fleet, host: Host) -> None:
    async with fleet.router() as http:
        pin = {**bearer(OPERATOR), "x-muster-pin-node": "far"}

        async def far_answers() -> bool:
            return (await http.post(CHAT, json=chat(), headers=pin)).status_code == 200

        await until_far(far_answers)
        async with http.stream("POST", CHAT, json=chat(stream=True), headers=pin) as stream:
            pieces = stream.aiter_raw()
            await anext(pieces)
            await asyncio.to_thread(host.cut)
            wholes = asyncio.gather(*(http.post(CHAT, json=chat()) for _ in range(30)))
            async with asyncio.timeout(BEFORE_SILENCE_COUNTS_S):
                rest = b"".join([piece async for piece in pieces])
                answers = await wholes
        await asyncio.to_thread(host.heal)
        await until_far(far_answers)

    assert {answer.status_code for answer in answers} == {200}
    assert b'"code":"upstream_error"' in rest
    assert b"[DONE]" not in rest


async def until_far(answers: Any) -> None:
    async with asyncio.timeout(60):
        while not await answers():
            await asyncio.sleep(0.2)
