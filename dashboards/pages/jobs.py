"""The jobs: Ansible runs, with their output as it happens."""

import asyncio
import re
from contextlib import aclosing
from typing import Any

from panel.viewable import Viewable

from control_api.client import ApiError
from control_api.client.schemas import ChangeOut, JobDetail, JobEventOut, JobHostOut, JobOut
from dashboards.components.listing import Listing
from dashboards.components.view import Action, View
from dashboards.pages.base import Desk, Page
from dashboards.templating import render
from dashboards.web import explain

# Output is sent to the browser at most this often.
FLUSH_S = 0.25
OUTPUT = "output"
_RULE = re.compile(r" \*{3,}")


def readable(stdout: str) -> str:
    """Return what Ansible printed without the empty lines and rows of stars that part things on a terminal."""
    return _RULE.sub("", stdout).strip("\r\n")


def failed_hosts(job: JobOut) -> list[str]:
    """Return the names of the hosts on which a job failed or that it did not reach: those that a retry is for."""
    return [name for name, counts in job.recap.items() if counts.get("failed") or counts.get("unreachable")]


class Jobs(Page):
    """Lists jobs; with ``?id=`` shows one and follows its output."""

    listing: Listing[Any]

    def __init__(self, desk: Desk, query: dict[str, str]) -> None:
        super().__init__(desk, query)
        self._job: JobDetail | None = None
        self._changes: list[ChangeOut] | None = None
        self._missing: str | None = None
        self._output = View(html=render("output.html", desk.words), margin=(20, 0))
        self._hosts = View(self.act)
        self.listing = _hosts() if "id" in query else _jobs()
        self._following: asyncio.Task[None] | None = None
        self._lines: list[JobEventOut] = []

    @property
    def template(self) -> str:  # type: ignore[override]
        """The list, or one job."""
        return "job.html" if "id" in self.query else "jobs.html"

    def content(self) -> list[Viewable]:
        """Return the list, or one job, its output and its hosts."""
        return [self.view, self._output, self._hosts] if "id" in self.query else [self.view]

    def context(self) -> dict[str, Any]:
        """Return the job that is shown."""
        if "id" not in self.query:
            return {"rows": self.listing.rows(self.desk.store.snapshot.jobs), "failed_hosts": failed_hosts}
        return {"job": self._shown(), "missing": self._missing, "failed_hosts": failed_hosts}

    def draw(self) -> None:
        """Show the job and its hosts as they are now."""
        super().draw()
        if "id" in self.query:
            job = self._shown()
            bad = set(failed_hosts(job)) if job else set()
            rows = self.listing.rows(sorted(job.hosts, key=lambda host: host.name not in bad)) if job else None
            slowest = self._job.slowest_tasks if self._job else []
            context = {"job": job, "rows": rows, "slowest": slowest, "changes": self._changes}
            self._hosts.draw(render("job_hosts.html", self.desk.words, **context))

    async def enter(self) -> None:
        """Read the job and follow its output."""
        if "id" in self.query:
            self._following = asyncio.create_task(self._follow(self.query["id"]), name="job-output")
        self.refresh()

    async def leave(self) -> None:
        """Stop following."""
        if self._following:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await super().leave()

    async def act(self, action: Action) -> None:
        """Cancel a job, run it again, or read what it changed."""
        if action.name == "cancel":
            self.desk.ask(
                self.text("Cancel this job?"),
                self.text("Its processes are stopped here and on the hosts. What was changed so far stays."),
                self.text("Cancel the job"),
                lambda: self._cancel(action.value),
            )
        elif action.name == "retry":
            with self.reporting():
                job = await self.desk.client.jobs.retry(action.value)
                self.desk.store.touch("jobs")
                await self.desk.go(f"/jobs?id={job.id}")
        elif action.name == "changes" and "id" in self.query:
            with self.reporting():
                self._changes = await self.desk.client.jobs.changes(self.query["id"])
                self.refresh()
        else:
            await super().act(action)

    def _shown(self) -> JobOut | None:
        return self.desk.store.snapshot.job(self.query["id"]) or self._job

    async def _cancel(self, job_id: str) -> None:
        await self.desk.client.jobs.cancel(job_id)
        self.desk.store.touch("jobs")

    async def _follow(self, job_id: str) -> None:
        try:
            self._job = await self.desk.client.jobs.get(job_id)
            self.refresh()
            flusher = asyncio.create_task(self._flush_often(), name="job-flush")
            try:
                async with aclosing(self.desk.client.jobs.follow(job_id)) as events:
                    async for event in events:
                        self._lines.append(event)
            finally:
                flusher.cancel()
                self._flush()
            self._job = await self.desk.client.jobs.get(job_id)
            self.desk.store.touch("jobs", "hosts")
        except ApiError as error:
            self._missing = explain(error, self.desk.words)
            self.refresh()

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            self._flush()

    def _flush(self) -> None:
        events, self._lines = self._lines, []
        lines = [(event, readable(event.stdout)) for event in events if event.stdout.strip() or event.diff]
        if lines:
            html = render("output_lines.html", self.desk.words, lines=lines)
            self.desk.change(lambda: self._output.append(OUTPUT, html))


def _jobs() -> Listing[JobOut]:
    def took_s(job: JobOut) -> float:
        return (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else -1

    return Listing(
        {
            "job": lambda job: job.playbook,
            "state": lambda job: job.status,
            "by": lambda job: job.requested_by,
            "created": lambda job: job.created_at,
            "took": took_s,
        },
        lambda job: f"{job.playbook} {job.requested_by} {job.reason or ''} {' '.join(host.name for host in job.hosts)}",
        lambda job: job.status,
        order="created",
        descending=True,
    )


def _hosts() -> Listing[JobHostOut]:
    return Listing({}, lambda host: host.name)
