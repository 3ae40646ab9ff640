"""Finds what is wrong, and tells the followers of the topic ``alerts`` when that changes."""

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.alerts import of_jobs, of_models, of_nodes, repository
from control_api.alerts.schemas import AlertOut, Severity
from control_api.kit.bus import Bus
from control_api.kit.database import Database

log = structlog.get_logger()

LOOK_EVERY_S = 2.0
TOPIC = "alerts"


class AlertService:
    """Works alerts out from the stores, anew each time: nothing has to be raised, acknowledged or cleared by anybody.

    Each API process tells its own followers, so that two processes never tell of the same thing twice.
    """

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus

    async def find(self, control: AsyncSession, telemetry: AsyncSession) -> list[AlertOut]:
        """Return what is wrong now: the critical first, of these the oldest."""
        found = [*await of_nodes.find(control), *await of_jobs.find(control), *await of_models.find(control)]
        found += await of_nodes.out_of_rotation(control, await repository.broken_links(telemetry))
        return sorted(found, key=order)

    async def run(self) -> None:
        """Look again and again until cancelled. A store that is away is read at the next turn."""
        known: dict[str, AlertOut] | None = None
        while True:
            try:
                async with self._database.control.read() as control, self._database.telemetry.read() as telemetry:
                    found = {alert.id: alert for alert in await self.find(control, telemetry)}
            except (SQLAlchemyError, OSError) as error:
                log.warning("alerts.store_unavailable", error=str(error))
            else:
                if known is not None:
                    self._tell(known, found)
                known = found
            await asyncio.sleep(LOOK_EVERY_S)

    def _tell(self, known: dict[str, AlertOut], found: dict[str, AlertOut]) -> None:
        for id_, alert in found.items():
            if alert != known.get(id_):
                self._bus.tell(TOPIC, "alert.changed" if id_ in known else "alert.raised", alert.model_dump(mode="json"))
        for id_, alert in known.items():
            if id_ not in found:
                self._bus.tell(TOPIC, "alert.cleared", alert.model_dump(mode="json"))


def order(alert: AlertOut) -> str:
    """Return what alerts are sorted by, which is also how one page of them follows another."""
    rank = list(Severity).index(alert.severity)
    return f"{rank} {alert.since.isoformat(timespec='microseconds')} {alert.id}"
