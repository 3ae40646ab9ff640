"""Downloads and likes of the catalogue's repositories: kept for ten minutes and fetched by a task, so that nobody waits."""

import asyncio
import time
from dataclasses import dataclass

import structlog

from control_api.catalogue.hub import Hub
from control_api.catalogue.schemas import HubFactsOut
from control_api.errors import BadAnswer, MusterError, Unavailable
from control_api.kit.clock import utcnow

log = structlog.get_logger()

KEEP_S = 600
RETRY_S = 10
DEADLINE_S = 1.0


@dataclass(frozen=True)
class HubView:
    """What is known of the hub now. ``reachable`` is false when the last attempt failed."""

    facts: dict[str, HubFactsOut]
    reachable: bool = True


class PopularityCache:
    """Answers from memory; whoever looks at something old wakes the task that refreshes it."""

    def __init__(self, hub: Hub, repos: list[str]) -> None:
        self._hub = hub
        self._repos = sorted(set(repos))
        self._view = HubView({})
        self._due_at = 0.0
        self._looked = asyncio.Event()

    def look(self) -> HubView:
        """Return what is known, at once."""
        if time.monotonic() >= self._due_at:
            self._looked.set()
        return self._view

    async def run(self) -> None:
        """Refresh whenever somebody looks and the answer is old; until cancelled."""
        while True:
            await self._looked.wait()
            self._view = await self._fetch()
            self._due_at = time.monotonic() + (KEEP_S if self._view.reachable else RETRY_S)
            self._looked.clear()

    async def _fetch(self) -> HubView:
        answers = await asyncio.gather(*(self._one(repo) for repo in self._repos))
        facts = {repo: a for repo, a in zip(self._repos, answers, strict=True) if isinstance(a, HubFactsOut)}
        silent = [a for a in answers if isinstance(a, Unavailable | BadAnswer)]
        if silent and len(silent) == len(answers):
            log.info("hub.unreachable", reason=silent[0].message)
            return HubView({}, reachable=False)
        return HubView(facts)

    async def _one(self, repo: str) -> HubFactsOut | MusterError:
        try:
            found = await self._hub.popularity(repo, timeout_s=DEADLINE_S)
        except MusterError as error:
            return error
        return HubFactsOut(downloads=found.downloads, likes=found.likes, fetched_at=utcnow())
