"""The router as a process: it starts, stops when told, and finishes what it began."""

import asyncio
import contextlib
import signal
import socket
import sys

import httpx2
import pytest

from control_api.errors import StartupError
from control_api.kit.tasks import owned_task
from control_api.router.serve import serve
from control_api.router.settings import RouterSettings
from tests.router import nodes
from tests.router.fleet import CHAT, KEY, Fleet, bearer, chat, eventually

pytestmark = pytest.mark.anyio


async def test_sigterm_ends_it_after_the_last_stream(fleet: Fleet) -> None:
    node = await fleet.node(nodes.streams_until_released)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    command = [sys.executable, "-m", "tests.router.process", str(listener.fileno()), node.url]
    process = await asyncio.create_subprocess_exec(*command, pass_fds=[listener.fileno()])
    listener.close()
    try:
        client = httpx2.AsyncClient(base_url=url, headers=bearer(KEY), timeout=20)
        async with client as http, http.stream("POST", CHAT, json=chat(stream=True)) as answer:
            pieces = answer.aiter_raw()
            first = await anext(pieces)
            process.send_signal(signal.SIGTERM)
            await refused(url)
            node.released.set()
            rest = b"".join([piece async for piece in pieces])
        code = await asyncio.wait_for(process.wait(), 10)
    finally:
        if process.returncode is None:
            process.kill()

    assert b"Hel" in first
    assert rest.endswith(b"data: [DONE]\n\n")
    assert code == 0


async def test_what_outlives_the_deadline_is_told_so(fleet: Fleet) -> None:
    waiting, streaming = await fleet.node(nodes.hangs), await fleet.node(nodes.streams_until_released, model="other:1b")
    async with httpx2.AsyncClient(headers=bearer(KEY), timeout=20) as http:
        async with fleet.router(shutdown_deadline_s=0):
            bodies = [chat(), chat(model="other:1b", stream=True)]
            tasks = [asyncio.create_task(http.post(fleet.url + CHAT, json=body)) for body in bodies]
            await eventually(lambda: waiting.busy and streaming.busy)
        whole, stream = await asyncio.gather(*tasks)

    assert (whole.status_code, whole.json()["error"]["code"]) == (503, "no_ready_node")
    assert '"code":"no_ready_node"' in stream.text
    assert "[DONE]" not in stream.text


async def test_a_taken_port_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=f"127.0.0.1:{port}"):
            await serve(RouterSettings(port=port), Fleet().source)


async def test_routers_that_share_a_port_stand_in_for_one_another() -> None:
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        settings = RouterSettings(port=held.getsockname()[1], reuse_port=True)
        url = f"http://127.0.0.1:{settings.port}"
        async with owned_task(serve(settings, Fleet().source), name="second"):
            async with owned_task(serve(settings, Fleet().source), name="first"):
                await accepted(url)
            await accepted(url)


async def accepted(url: str) -> None:
    """Wait until somebody answers."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(httpx2.TransportError):
                async with httpx2.AsyncClient() as http:
                    if (await http.get(url + "/healthz")).status_code == 200:
                        return
            await asyncio.sleep(0.01)


async def refused(url: str) -> None:
    """Wait until nobody listens any more."""
    async with asyncio.timeout(10):
        while True:
            try:
                async with httpx2.AsyncClient() as http:
                    await http.get(url + "/healthz")
            except httpx2.ConnectError:
                return
            await asyncio.sleep(0.01)
