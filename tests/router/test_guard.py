"""What keeps one failure from becoming many."""

import asyncio

import httpx2
import pytest

from control_api.router.breaker import FAILURES_TO_OPEN
from control_api.router.errors import CrashesEngines
from control_api.router.guard import REFUSED_S, REMEMBERED_BODIES, RETRY_RESERVE, CrashGuard, RetryBudget
from tests.router import nodes
from tests.router.fleet import CHAT, KEY, Fleet, bearer, chat, eventually
from tests.router.nodes import Exchange, says
from tests.router.test_balance import Clock

pytestmark = pytest.mark.anyio


def test_retries_are_a_fifth_of_the_traffic_once_the_reserve_is_spent() -> None:
    budget = RetryBudget()
    for _ in range(int(RETRY_RESERVE)):
        assert budget.spend()

    assert not budget.spend()
    for _ in range(5):
        budget.earn()
    assert budget.spend()
    assert not budget.spend()


async def test_without_budget_a_failure_is_not_made_good_elsewhere(fleet: Fleet) -> None:
    """Many fail at once. Those for which no retry is left are told to come back: there are nodes that were not asked."""

    async def fails_late(exchange: Exchange) -> None:
        await exchange.node.released.wait()
        await says(500)(exchange)

    count = int(RETRY_RESERVE) + 20
    node = await fleet.node(fails_late, slots=1000)
    no_limit = httpx2.Limits(max_connections=None)
    async with fleet.router(), httpx2.AsyncClient(headers=bearer(KEY), timeout=20, limits=no_limit) as http:
        tasks = [asyncio.create_task(http.post(fleet.url + CHAT, json=chat())) for _ in range(count)]
        await eventually(lambda: node.busy == count)
        node.released.set()
        answers = await asyncio.gather(*tasks)

    late = [answer for answer in answers if "retry-after-ms" in answer.headers]
    assert {answer.status_code for answer in answers} == {502}
    assert 10 <= len(late) <= 20
    assert all("x-should-retry" not in answer.headers for answer in late)


def test_a_body_is_refused_after_two_crashes_and_for_some_time() -> None:
    clock = Clock()
    guard = CrashGuard(clock)
    guard.crashed(b"bad")
    guard.check(b"bad")
    guard.crashed(b"bad")
    guard.check(b"good")
    with pytest.raises(CrashesEngines):
        guard.check(b"bad")
    clock.now += REFUSED_S
    guard.check(b"bad")


def test_remembered_bodies_are_bounded() -> None:
    guard = CrashGuard()
    for number in range(REMEMBERED_BODIES + 10):
        guard.crashed(b"%d" % number)

    assert len(guard._bodies) == REMEMBERED_BODIES


async def test_a_node_whose_streams_break_off_is_taken_out(fleet: Fleet) -> None:
    breaking = await fleet.node(nodes.streams_then_resets)
    good = await fleet.node()
    async with fleet.router() as http:
        broken = 0
        while broken < FAILURES_TO_OPEN:
            broken += "upstream_error" in (await http.post(CHAT, json=chat(stream=True))).text
        answers = [await http.post(CHAT, json=chat(stream=True)) for _ in range(5)]

    assert {answer.headers["x-muster-node"] for answer in answers} == {good.id}
    assert len(breaking.requests) == FAILURES_TO_OPEN
