"""The live connection: what clients may ask of it, how many there are, and when they end."""

import asyncio
import contextlib
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import delete, update
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from control_api.access.models import ApiKey, User
from control_api.kit.clock import utcnow
from control_api.live import MAX_SOCKETS
from tests.access.test_access import make_admin
from tests.fleet.reports import bearer
from tests.running import Api

pytestmark = pytest.mark.anyio

NODES = {"subscribe": ["nodes"]}
WRONG: dict[str, Any] = {
    "bytes": b'{"subscribe": ["nodes"]}',
    "no utf-8 in bytes": b"\xff\xfe",
    "garbage": "garbage",
    "deep": "[" * 60_000,
    "deep inside": '{"subscribe": ["nodes"], "after": ' + '{"a":' * 10_000 + "1" + "}" * 10_001,
    "a lone surrogate": '{"subscribe": ["\\ud800"]}',
    "an unknown topic": json.dumps({"subscribe": ["weather"]}),
    "a topic without end": json.dumps({"subscribe": ["w" * 50_000]}),
    "a job that is none": json.dumps({"subscribe": ["job:"]}),
    "a zero byte": json.dumps({"subscribe": ["job:\0"]}),
    "thousands of topics": json.dumps({"subscribe": [f"job:{n}" for n in range(4000)]}),
    "a list": "[]",
    "null": "null",
    **{
        f"after {value}": json.dumps({"subscribe": ["job:1"], "after": {"job:1": value}})
        for value in (10**30, 2**63, -1, -(2**63) - 1, 1.5, "1", True, None, [], {})
    },
    "after a number of 5,000 digits": '{"subscribe": ["job:1"], "after": {"job:1": ' + "9" * 5000 + "}}",
    "after for thousands": json.dumps({"subscribe": ["job:1"], "after": {f"job:{n}": 1 for n in range(3000)}}),
}


def live(api: Api, credential: str) -> connect:
    """Return a connection that is still to be opened."""
    return connect(api.url.replace("http", "ws") + "/v0/events", additional_headers=bearer(credential))


async def heard(socket: ClientConnection) -> dict[str, Any]:
    """Return the next message."""
    message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 20))
    return message


async def ending(socket: ClientConnection) -> int:
    """Wait for the end and return its code."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await asyncio.wait_for(socket.recv(), 20)
    assert closed.value.rcvd
    return closed.value.rcvd.code


async def test_what_is_no_subscription_is_answered_and_breaks_nothing(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    async with live(api, api.key) as socket:
        for name, wrong in WRONG.items():
            await socket.send(wrong)
            assert (await heard(socket))["type"] == "error", name
        await socket.send(json.dumps(NODES))
        assert await heard(socket) == {"type": "reset", "topic": "nodes"}
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_connection_follows_so_many_jobs(api: Api) -> None:
    async with live(api, api.key) as socket:
        await socket.send(json.dumps({"subscribe": [f"job:{n}" for n in range(32)]}))
        await socket.send(json.dumps({"subscribe": ["job:32", "job:1", "nodes"]}))
        assert "32 jobs" in (await heard(socket))["message"]
        assert await heard(socket) == {"type": "reset", "topic": "nodes"}


async def test_a_credential_listens_in_so_many_places(api: Api) -> None:
    other = (await api.http.post("/v0/api-keys", json={"name": "other", "scopes": ["read"]})).json()["key"]
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(live(api, other)) for _ in range(MAX_SOCKETS)]
        with pytest.raises(InvalidStatus) as refused:
            await live(api, other)
        assert (refused.value.response.status_code, b"too_many_sockets" in refused.value.response.body) == (429, True)
        async with live(api, api.key) as mine:
            await mine.send(json.dumps(NODES))
            assert (await heard(mine))["type"] == "reset"
        await sockets[0].close()
        async with live(api, other) as again:
            await again.send(json.dumps(NODES))
            assert (await heard(again))["type"] == "reset"


@pytest.mark.parametrize("end", ["deleted", "expired", "narrowed"])
async def test_a_key_that_ends_ends_its_connections(api: Api, end: str) -> None:
    made = (await api.http.post("/v0/api-keys", json={"name": "k", "scopes": ["read"]})).json()
    async with live(api, made["key"]) as socket, live(api, api.key) as other:
        if end == "deleted":
            await api.http.delete(f"/v0/api-keys/{made['id']}")
        else:
            change = {"expires_at": utcnow() - timedelta(seconds=1)} if end == "expired" else {"scopes": ["inference"]}
            async with api.database.control.write() as session:
                await session.exec(update(ApiKey).where(ApiKey.id == made["id"]).values(**change))  # type: ignore[arg-type]
        assert await ending(socket) == 1008
        await other.send(json.dumps(NODES))
        assert (await heard(other))["type"] == "reset"


@pytest.mark.parametrize("end", ["logged out", "removed"])
async def test_a_user_who_ends_ends_their_connections(api: Api, end: str) -> None:
    session_out = await make_admin(api)
    async with live(api, session_out["access_token"]) as socket:
        if end == "logged out":
            await api.http.post("/v0/auth/logout", json={"session_id": session_out["session_id"]})
        else:
            async with api.database.control.write() as session:
                await session.exec(delete(User))
        assert await ending(socket) == 1008


async def test_a_client_that_reads_nothing_is_let_go_with_its_credential(api: Api) -> None:
    made = (await api.http.post("/v0/api-keys", json={"name": "k", "scopes": ["read"]})).json()
    async with live(api, made["key"]) as socket:
        socket.transport.pause_reading()
        for _ in range(200):
            await socket.send(json.dumps({"subscribe": ["weather"] * 30}))
        await api.http.delete(f"/v0/api-keys/{made['id']}")
        socket.transport.resume_reading()
        assert await ending(socket) == 1008
