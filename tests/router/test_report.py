"""What a router takes out of rotation is to be seen at the control API."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from control_api.fleet.states import ModelState
from control_api.keys import load_keys
from control_api.kit import revision
from control_api.router.report import StoreReport
from control_api.router.repository import StoreSource
from control_api.router.settings import RouterSettings
from tests.router.fleet import CHAT, Fleet, chat
from tests.router.nodes import FakeNode, good, resets
from tests.router.running import running_router
from tests.router.test_repository import given, model_row, node_row, report
from tests.running import KEY, Api, until

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def routing(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client of a router that reads and tells the stores of an API."""
    source = StoreSource(api.database.control, load_keys(api.settings).routing)
    sink = StoreReport(api.database.telemetry)
    settings = RouterSettings(poll_interval_s=0.02, shutdown_deadline_s=1.0)
    async with running_router(settings, source, key=KEY, breaker_sink=sink) as http:
        yield http


async def add_node(api: Api, node: FakeNode) -> None:
    async with api.database.control.write() as session:
        session.add(model_row())
        session.add(node_row(load_keys(api.settings).routing, node.url))
        await session.flush()
        session.add_all([report(ModelState.READY), given()])
        await revision.bump(session, revision.ROUTES)


@pytest.mark.parametrize(("up", "cause", "failures"), [(False, "unreachable", 1), (True, "lost", 3)])
async def test_a_node_out_of_rotation_is_shown_until_it_is_back(
    api: Api, fleet: Fleet, up: bool, cause: str, failures: int
) -> None:
    node = await fleet.node(resets, up=up)
    await add_node(api, node)

    async def shown() -> list[dict[str, Any]]:
        (found,) = (await api.http.get("/v0/nodes")).json()["items"]
        breakers: list[dict[str, Any]] = found["breakers"]
        return breakers

    assert await shown() == []
    async with routing(api) as http:
        await until(lambda: ready(http), what="the router's first table")
        for _ in range(failures):
            await http.post(CHAT, json=chat())
        (breaker,) = await until(shown, what="the breaker to be shown")
        assert breaker["state"] in ("open", "half_open")
        assert breaker["cause"] == cause

        node.behave = good
        if not up:
            await node.start()

        async def back() -> bool:
            return (await http.post(CHAT, json=chat())).status_code == 200 and not await shown()

        await until(back, what="the node to be back and shown so")


async def ready(http: httpx2.AsyncClient) -> bool:
    return (await http.get("/readyz")).status_code == 200
