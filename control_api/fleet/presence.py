"""Silence: a node that says nothing while somebody listened is offline."""

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError

from control_api.fleet import repository
from control_api.fleet.states import NodeState
from control_api.fleet.transitions import set_state
from control_api.kit import revision
from control_api.kit.database import Store
from control_api.settings import Settings

log = structlog.get_logger()

SWEEP_S = 2.0


class Presence:
    """Keeps the fleet's ear open, and finds those who fell silent. Any number of API processes may run it."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store

    async def run(self) -> None:
        """Listen and sweep until cancelled. A store that is away is tried again: nobody goes offline by that."""
        while True:
            try:
                await self.sweep()
            except (SQLAlchemyError, OSError) as error:
                log.warning("presence.store_unavailable", error=str(error))
            await asyncio.sleep(SWEEP_S)

    async def sweep(self) -> None:
        """Say that we listen; take nodes that were silent all that time offline."""
        async with self._store.write() as session:
            await repository.keep_listening(session, self._settings.listening_gap_s)
            silent = await repository.silent_nodes(session, self._settings.offline_after_s)
            for node in silent:
                set_state(session, node, NodeState.OFFLINE, f"no heartbeat for {self._settings.offline_after_s} s")
                session.add(node)
            if silent:
                await revision.bump(session, revision.ROUTES)
