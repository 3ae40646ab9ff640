"""Models that a node loads when the first request comes."""

import json
from collections.abc import Awaitable, Callable

import pytest

from tests.router.fleet import CHAT, MODEL, Fleet, chat
from tests.router.nodes import Exchange, good

pytestmark = pytest.mark.anyio

LOADING = json.dumps(
    {"error": {"message": "loading", "type": "server_error", "param": "model", "code": "model_loading"}}
).encode()
UNLOADED = {"ready": False, "model_state": "installed", "on_demand": True, "slots": 0}


def loads_at(attempt: int) -> Callable[[Exchange], Awaitable[None]]:
    """Behave as a node that has the model loaded when it is asked for the n-th time."""

    async def behave(exchange: Exchange) -> None:
        if len(exchange.node.requests) < attempt:
            await exchange.answer(503, LOADING)
        else:
            await good(exchange)

    return behave


async def test_request_waits_while_a_node_loads_its_model(fleet: Fleet) -> None:
    node = await fleet.node(loads_at(3), **UNLOADED)
    async with fleet.router() as http:
        listed = (await http.get("/v1/models")).json()["data"]
        answer = await http.post(CHAT, json=chat())

    assert [model["id"] for model in listed] == [MODEL]
    assert answer.status_code == 200
    assert (answer.headers["x-muster-node"], answer.headers["x-muster-attempts"]) == (node.id, "3")
    assert float(answer.headers["x-muster-queue-ms"]) > 0


async def test_node_that_has_it_loaded_is_preferred(fleet: Fleet) -> None:
    unloaded = await fleet.node(loads_at(1), **UNLOADED)
    loaded = await fleet.node()
    async with fleet.router() as http:
        answers = [await http.post(CHAT, json=chat()) for _ in range(8)]

    assert {answer.headers["x-muster-node"] for answer in answers} == {loaded.id}
    assert unloaded.requests == []


async def test_loading_that_takes_longer_than_the_queue_is_said(fleet: Fleet) -> None:
    await fleet.node(loads_at(1000), **UNLOADED)
    async with fleet.router(queue_deadline_s=0.5) as http:
        answer = await http.post(CHAT, json=chat())

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_timeout")
    assert "retry-after" in answer.headers
