"""One browser tab: the frame around the pages, the way between them, and what keeps the shown one fresh."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from bokeh.document import Document
from panel import ui

from control_api.client import NotSignedIn
from control_api.client.schemas import JobStatus
from dashboards import alerts
from dashboards.auth import SignedIn
from dashboards.components.dialogs import FormDialog
from dashboards.components.view import Action, View
from dashboards.i18n import Language
from dashboards.pages import PAGES
from dashboards.pages.base import Desk, Page
from dashboards.runtime import Runtime
from dashboards.store import FleetStore
from dashboards.templating import render

TOAST_S = 7.0


class Shell:
    """The frame of one tab."""

    def __init__(self, runtime: Runtime, user: SignedIn, words: Language, url: str, doc: Document) -> None:
        self._runtime = runtime
        self._user = user
        self._words = words
        self._doc = doc
        self._client = runtime.client_of(user.session_id)
        self._store = runtime.store or FleetStore(self._client)
        self._open = True
        self._drawing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription = ExitStack()
        self._toasts: dict[int, tuple[Literal["ok", "bad"], str]] = {}
        self._question = FormDialog(words, self.change)
        self.header = View(self._act, html=render("header.html", words, user=user))
        self.navigation = View(self._act, navigates=True)
        self.main = ui.Column(sizing_mode="stretch_width")
        self._desk = Desk(
            user, self._client, runtime.router, self._store, words, self.change, self.go, self.say, self._question.ask
        )
        self._name, self._page = self._find(url)
        self._show()

    @property
    def dialog(self) -> ui.Dialog:
        """The dialog for questions."""
        return self._question.dialog

    async def start(self) -> None:
        """Begin to follow the fleet. Called once the browser is connected."""
        self._subscription.enter_context(self._store.subscribed(self._changed))
        self._spawn("tab-guard", self._guard())
        if self._runtime.store is None:
            self._spawn("tab-store", self._follow())
        await self._page.enter()

    async def stop(self) -> None:
        """Stop following. Called when the tab is gone."""
        self._open = False
        self._subscription.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._page.leave()
        await self._client.aclose()

    def change(self, change: Callable[[], None]) -> None:
        """Do something to what is shown, soon, while nothing else does: Bokeh runs it under the document's lock."""
        if self._open:
            self._doc.add_next_tick_callback(change)

    async def go(self, url: str) -> None:
        """Show another page and put its address in the address bar."""
        self.change(lambda: self.navigation.go(url))
        await self._visit(url)

    def say(self, kind: Literal["ok", "bad"], message: str) -> None:
        """Show a message for a few seconds."""
        number = max(self._toasts, default=0) + 1
        self._toasts[number] = (kind, message)
        self.change(self._show_navigation)
        self._spawn("tab-toast", self._forget(number))

    async def _visit(self, url: str) -> None:
        left = self._page
        self._name, self._page = self._find(url)
        self.change(self._show)
        await left.leave()
        await self._page.enter()

    def _find(self, url: str) -> tuple[str, Page]:
        parts = urlsplit(url)
        name = parts.path.strip("/")
        name = name if name in PAGES else next(iter(PAGES))
        return name, PAGES[name].page(self._desk, dict(parse_qsl(parts.query)))

    def _show(self) -> None:
        self._page.draw()
        self.main.objects = self._page.content()
        self._show_navigation()

    def _show_navigation(self) -> None:
        snapshot = self._store.snapshot
        wrong = [alert for alert in snapshot.alerts if alerts.kind_of(alert) == "bad"]
        running = [job for job in snapshot.jobs if job.status is JobStatus.RUNNING]
        counts = {"overview": ("bad", len(wrong)), "jobs": ("info", len(running))}
        shown = {name: entry for name, entry in PAGES.items() if self._user.is_admin or not entry.admin or name == self._name}
        context = {"pages": shown, "current": self._name, "counts": counts, "toasts": dict(self._toasts)}
        self.navigation.draw(render("navigation.html", self._words, **context))

    def _changed(self) -> None:
        if not self._drawing:
            self._drawing = True
            self.change(self._draw)

    def _draw(self) -> None:
        self._drawing = False
        self._page.draw()
        self._show_navigation()

    async def _act(self, action: Action) -> None:
        if action.name == "go":
            await self._visit(action.value)
        elif action.name == "dismiss" and action.value.isdigit():
            self._toasts.pop(int(action.value), None)
            self.change(self._show_navigation)

    async def _forget(self, number: int) -> None:
        await asyncio.sleep(TOAST_S)
        if self._toasts.pop(number, None):
            self.change(self._show_navigation)

    async def _follow(self) -> None:
        try:
            await self._store.run()
        except* NotSignedIn:
            self._leave()

    async def _guard(self) -> None:
        """Send the tab to the login page when its session has ended, here or anywhere else."""
        await self._user.over.wait()
        self._leave()

    def _leave(self) -> None:
        self.change(lambda: self.navigation.leave("/login"))

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._runtime.spawn(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
