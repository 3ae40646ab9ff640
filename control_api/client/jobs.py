"""Jobs and their live output."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from control_api.client import live
from control_api.client.http import PAGE_SIZE, Http, part
from control_api.client.schemas import ChangeOut, InventoryOut, JobCreate, JobDetail, JobEventOut, JobEventsOut, JobOut, Page

# The end of a job is asked for at least this often, whatever the live connection says.
CHECK_EVERY_S = 3.0
# Events come in bursts; one read fetches those of this long.
GATHER_S = 0.2


class Jobs:
    """``/v0/jobs``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def create(self, job: JobCreate) -> JobOut:
        """Queue a job."""
        return await self._http.post(JobOut, "/v0/jobs", job)

    async def changes(self, job_id: str) -> list[ChangeOut]:
        """Return what a job changed, or would have changed in check mode, oldest first."""
        return [change async for change in self._http.items(ChangeOut, f"/v0/jobs/{part(job_id)}/changes")]

    async def inventory(self, job_id: str) -> InventoryOut:
        """Return the inventory that a job ran with."""
        return await self._http.get(InventoryOut, f"/v0/jobs/{part(job_id)}/inventory")

    async def list(self, *, limit: int | None = None) -> list[JobOut]:
        """Return jobs, newest first; ``limit``: at most so many."""
        if limit is not None:
            return (await self._http.get(Page[JobOut], "/v0/jobs", limit=limit)).items
        return [job async for job in self._http.items(JobOut, "/v0/jobs")]

    async def get(self, job_id: str) -> JobDetail:
        """Return one job."""
        return await self._http.get(JobDetail, f"/v0/jobs/{part(job_id)}")

    async def cancel(self, job_id: str) -> JobOut:
        """Ask a job to stop."""
        return await self._http.post(JobOut, f"/v0/jobs/{part(job_id)}/cancel")

    async def retry(self, job_id: str) -> JobOut:
        """Queue a finished job again; return the new one."""
        return await self._http.post(JobOut, f"/v0/jobs/{part(job_id)}/retry")

    async def events(self, job_id: str, *, after: int = 0, limit: int = PAGE_SIZE) -> JobEventsOut:
        """Return up to ``limit`` stored events that follow the event ``after``, oldest first."""
        return await self._http.get(JobEventsOut, f"/v0/jobs/{part(job_id)}/events", after=after, limit=limit)

    async def follow(self, job_id: str, *, after: int = 0) -> AsyncGenerator[JobEventOut]:
        """Yield the events of a job as they happen, and end when the job has ended and all of them were seen.

        The live connection only says that there is something to read; events are read from the list, so that a lost
        connection loses none, and without one they only come later.
        """
        async with aclosing(self._turns(job_id)) as turns:
            async for _ in turns:
                page = await self.events(job_id, after=after)
                for event in page.items:
                    yield event
                while page.next_cursor:
                    page = await self.events(job_id, after=page.last_id)
                    for event in page.items:
                        yield event
                after = page.last_id
                if page.final:
                    return

    async def _turns(self, job_id: str) -> AsyncGenerator[None]:
        """Yield when there may be something new: at once, at each live event, and every few seconds anyway."""
        stirred = asyncio.Event()
        listener = asyncio.create_task(self._listen(job_id, stirred))
        try:
            while True:
                yield
                try:
                    await asyncio.wait_for(stirred.wait(), CHECK_EVERY_S)
                except TimeoutError:
                    continue
                await asyncio.sleep(GATHER_S)
                stirred.clear()
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def _listen(self, job_id: str, stirred: asyncio.Event) -> None:
        async with aclosing(live.follow(self._http, [f"job:{job_id}", "jobs"])) as events:
            async for event in events:
                if event.topic == f"job:{job_id}" or event.data.get("id") == job_id:
                    stirred.set()
