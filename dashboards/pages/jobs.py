"""The jobs: Ansible runs, with their output as it happens."""

import asyncio
import re
from contextlib import aclosing
from typing import Any

from panel.viewable import Viewable

from control_api.client import ApiError
from control_api.client.schemas import JobEventOut, JobOut
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


class Jobs(Page):
    """Lists jobs; with ``?id=`` shows one and follows its output."""

    def __init__(self, desk: Desk, query: dict[str, str]) -> None:
        super().__init__(desk, query)
        self._job: JobOut | None = None
        self._missing: str | None = None
        self._output = View(html=render("output.html", desk.words), margin=(20, 0))
        self._hosts = View()
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
            return {}
        return {"job": self._shown(), "missing": self._missing}

    def draw(self) -> None:
        """Show the job and its hosts as they are now."""
        super().draw()
        if "id" in self.query:
            self._hosts.draw(render("job_hosts.html", self.desk.words, job=self._shown()))

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
        """Cancel a job or run it again."""
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
        else:
            await super().act(action)

    def _shown(self) -> JobOut | None:
        return self.desk.store.snapshot.job(self.query["id"]) or self._job

    async def _cancel(self, job_id: str) -> None:
        self._job = await self.desk.client.jobs.cancel(job_id)
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
