"""The moments when a caller leaves and its turn comes at once: no lease is lost, none is given twice."""

import asyncio

import pytest

from control_api.router.balance import Balancer
from control_api.router.errors import NotReady
from control_api.router.waiting import WaitingRoom
from tests.router.test_balance import MODEL, ONLINE, balancer_of, table_of

pytestmark = pytest.mark.anyio


def room_of(balancer: Balancer, deadline_s: float = 5) -> WaitingRoom:
    return WaitingRoom(balancer, size=10, deadline_s=deadline_s)


async def waiting(room: WaitingRoom, count: int) -> list["asyncio.Task[object]"]:
    """Return callers that wait."""
    tasks = [asyncio.create_task(room.enter(room.ticket(MODEL, set()))) for _ in range(count)]
    await asyncio.sleep(0)
    assert room.waiting() == {MODEL: count}
    return tasks


async def test_a_caller_cancelled_at_its_turn_hands_the_lease_on() -> None:
    balancer, _ = balancer_of((*ONLINE, 1))
    room = room_of(balancer)
    lease = await room.enter(room.ticket(MODEL, set()))
    assert lease
    leaving, staying = await waiting(room, 2)

    room.leave(lease)
    leaving.cancel()

    assert await staying == lease
    assert leaving.cancelled()
    assert sum(balancer.in_flight.values()) == 1


async def test_a_caller_whose_turn_comes_at_its_deadline_loses_no_lease() -> None:
    balancer, _ = balancer_of((*ONLINE, 1))
    room = room_of(balancer, deadline_s=0)
    lease = await room.enter(room.ticket(MODEL, set()))
    assert lease
    [late] = await waiting(room, 1)

    room.leave(lease)
    with pytest.raises(NotReady):
        await late

    assert not balancer.in_flight
    assert not room.waiting()


async def test_a_caller_that_comes_back_is_first_in_line() -> None:
    balancer, _ = balancer_of((*ONLINE, 1))
    room = room_of(balancer)
    ticket = room.ticket(MODEL, set())
    lease = await room.enter(ticket)
    assert lease
    [other] = await waiting(room, 1)
    balancer.busy(lease)
    room.leave(lease)
    back = asyncio.create_task(room.enter(ticket))
    await asyncio.sleep(0)
    balancer.adopt(table_of((*ONLINE, 1), revision=2))
    room.call_all()

    assert await back == lease
    assert not other.done()
    room.leave(lease)
    assert await other == lease


async def test_nobody_waits_where_there_is_no_node() -> None:
    balancer, _ = balancer_of(("draining", "drained", False, True, 1))
    room = room_of(balancer)

    assert await room.enter(room.ticket(MODEL, set())) is None
    assert not room.waiting()
