"""The client against real HTTP: pages, errors, and following what happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest

from control_api.client import ApiError, ApiUnreachable, Client, LiveEvent, NotSignedIn
from control_api.client.schemas import HostCreate, JobStatus, NodeState
from tests.dashboards import fake_api, fake_fleet, fleet_data, fleet_jobs
from tests.dashboards.conftest import api, fleet  # noqa: F401 - fixtures
from tests.dashboards.servers import Running
from tests.dashboards.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(api: Running) -> AsyncIterator[Client]:  # noqa: F811
    async with Client(api.url, fake_api.SERVICE_TOKEN) as client:
        yield client


def answering(handler: Any) -> Client:
    return Client("http://api", "key", transport=httpx2.MockTransport(handler))


async def test_lists_are_read_page_after_page() -> None:
    nodes = [fleet_data.node(i, f"gpu-{i}").model_dump(mode="json") for i in range(5)]

    def handler(request: httpx2.Request) -> httpx2.Response:
        start = int(request.url.params.get("cursor", 0))
        return httpx2.Response(
            200, json={"items": nodes[start : start + 2], "next_cursor": str(start + 2) if start + 2 < 5 else None}
        )

    assert [node.name for node in await answering(handler).nodes.list()] == [f"gpu-{i}" for i in range(5)]


async def test_only_what_is_set_is_sent(client: Client, fleet: fake_fleet.Fleet) -> None:  # noqa: F811
    await client.hosts.create(HostCreate(name="gpu-09", address="10.0.0.9", tags=["a"]))
    assert fleet.calls[-1] == ("POST", "/v0/hosts", {"name": "gpu-09", "address": "10.0.0.9", "tags": ["a"]})


async def test_errors_carry_what_the_api_said(client: Client, fleet: fake_fleet.Fleet) -> None:  # noqa: F811
    with pytest.raises(ApiError) as caught:
        await client.hosts.create(HostCreate(name="gpu-01", address="10.0.0.9"))
    error = caught.value
    assert (error.code, error.status, error.request_id) == ("host_exists", 409, "req-1")
    assert str(error) == "There is already a host named gpu-01."


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b'{"error": "text"}', b"[]"])
async def test_answers_of_something_else_are_errors_too(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        await answering(lambda _: httpx2.Response(502, content=body)).nodes.list()
    assert (caught.value.code, caught.value.status) == ("http_502", 502)


async def test_no_answer_names_the_address() -> None:
    async with Client("http://127.0.0.1:9") as client:
        with pytest.raises(ApiUnreachable, match=r"127\.0\.0\.1:9 does not answer"):
            await client.nodes.list()
        assert not await client.healthy()


async def test_a_wrong_credential_is_its_own_error(api: Running) -> None:  # noqa: F811
    async with Client(api.url, "wrong") as client:
        with pytest.raises(NotSignedIn):
            await client.nodes.list()


async def test_ids_cannot_leave_their_place_in_the_path() -> None:
    paths: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        paths.append(request.url.raw_path.decode())
        return httpx2.Response(204)

    client = answering(handler)
    await client.hosts.delete("../api-keys/1?x#y")
    await client.models.delete("hf/org:7b")
    assert paths == ["/v0/hosts/..%2Fapi-keys%2F1%3Fx%23y", "/v0/models/hf%2Forg:7b"]


@pytest.mark.parametrize("name", [".", "..", "gpt oss", "a\x1b", "a/../b", "a?b#c", "50%"])
async def test_a_name_stays_one_part_of_the_path(name: str) -> None:
    asked = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(unquote(request.url.raw_path.decode()))
        return httpx2.Response(404, json={"error": {"code": "unknown_host", "message": "No host."}})

    for call in (answering(handler).hosts.delete, answering(handler).models.delete, answering(handler).keys.delete):
        with pytest.raises(ApiError):
            await call(name)
    assert asked == [f"/v0/hosts/{name}", f"/v0/models/{name}", f"/v0/api-keys/{name}"]


@pytest.mark.parametrize("name", ["", "\udcff"])
async def test_what_no_path_can_hold_is_an_error_and_nothing_is_asked(name: str) -> None:
    with pytest.raises(ApiError) as caught:
        await answering(lambda _: httpx2.Response(204)).hosts.delete(name)
    assert caught.value.code == "invalid_request"


async def test_a_token_that_changes_is_asked_for_each_call(api: Running, fleet: fake_fleet.Fleet) -> None:  # noqa: F811
    tokens = iter(["wrong", fake_api.SERVICE_TOKEN])

    async def token() -> str:
        return next(tokens)

    async with Client(api.url, token) as client:
        with pytest.raises(NotSignedIn):
            await client.nodes.list()
        assert await client.nodes.list()


async def test_events_survive_a_lost_connection(client: Client, fleet: fake_fleet.Fleet, api: Running) -> None:  # noqa: F811
    seen: list[LiveEvent] = []

    async def listen() -> None:
        async with aclosing(client.events(["nodes"])) as events:
            async for event in events:
                seen.append(event)

    listening = asyncio.create_task(listen())
    await until(lambda: fleet.listeners)
    assert seen[0].type == "reset"
    api.call(fleet.replace_node, fleet.nodes[0].model_copy(update={"state": NodeState.OFFLINE}))
    await until(lambda: len(seen) == 2)
    assert (seen[1].type, seen[1].data["to"]) == ("node.state_changed", "offline")
    api.call(lambda: [queue.put_nowait({"close": True}) for queue in fleet.listeners])
    await until(lambda: len(seen) == 3)
    assert seen[2].type == "reset"
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_a_refused_live_connection_is_an_error(api: Running) -> None:  # noqa: F811
    async with Client(api.url, "wrong") as client:
        with pytest.raises(ApiError) as caught:
            async with aclosing(client.events(["nodes"])) as events:
                await anext(events)
    assert caught.value.code in ("live_refused", "unauthenticated")


async def test_a_job_is_followed_to_its_end_without_loss(client: Client, fleet: fake_fleet.Fleet, api: Running) -> None:  # noqa: F811
    job = fleet.jobs[0]
    stored = len(fleet.events[job.id])
    seen: list[int] = []

    async def follow() -> None:
        async with aclosing(client.jobs.follow(job.id)) as events:
            async for event in events:
                seen.append(event.id)

    following = asyncio.create_task(follow())
    await until(lambda: len(seen) == stored)
    for number in (100, 101):
        api.call(fleet.add_event, job.id, fleet_jobs.event(number, "runner_on_ok"))
    await until(lambda: seen[-1] == 101)
    assert not following.done()
    api.call(fleet.replace_job, job.model_copy(update={"status": JobStatus.SUCCESSFUL}))
    await asyncio.wait_for(following, 20)
    assert seen == [event.id for event in fleet.events[job.id]]
