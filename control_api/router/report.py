"""Tells the control API which nodes this router has taken out of rotation, so that people can see it."""

import asyncio
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from control_api.kit.database import Store
from control_api.kit.ids import new_id
from control_api.router.balance import Balancer
from control_api.router.breaker import BreakerState
from control_api.telemetry import breakers

log = structlog.get_logger()

LOOK_EVERY_S = 0.5
WRITE_TIMEOUT_S = 5.0


class BreakerSink(Protocol):
    """Takes what a router says of the nodes."""

    async def report(self, states: list[BreakerState]) -> None:
        """Take all nodes that are out of rotation now. May fail: it is told again."""
        ...


class StoreReport:
    """A ``BreakerSink`` that writes to the telemetry store, under an id of this process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._router_id = new_id()

    async def report(self, states: list[BreakerState]) -> None:
        """Replace what this router said before."""
        async with self._store.write() as session:
            await breakers.replace(session, self._router_id, [(s.node_id, s.state, s.cause) for s in states])


async def report_breakers(balancer: Balancer, sink: BreakerSink) -> None:
    """Report every change, and as long as a node is out that it still is; until cancelled."""
    told: list[BreakerState] = []
    due, loop = 0.0, asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        states = sorted(balancer.out_of_rotation())
        if states == told and (not states or loop.time() < due):
            continue
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await sink.report(states)
        except (SQLAlchemyError, OSError) as error:
            log.warning("router.report_failed", error=str(error))
            continue
        told, due = states, loop.time() + breakers.SAID_AGAIN_S
