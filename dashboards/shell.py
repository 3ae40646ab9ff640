"""One browser tab: the frame around the pages, the way between them, and what keeps the shown one fresh."""

import asyncio
from contextlib import ExitStack
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from bokeh.document import Document
from panel import ui

from control_api.client import ApiError, NotSignedIn
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
# How soon an open tab notices that its session was ended here, and how often the API is asked whether it lives.
LOOK_S = 2.0
ASK_EVERY = 30


class Shell:
    """The frame of one tab."""

    def __init__(self, runtime: Runtime, user: SignedIn, words: Language, url: str) -> None:
        self._runtime = runtime
        self._user = user
        self._words = words
        self._client = runtime.client_of(user.session_id)
        self._store = runtime.store or FleetStore(self._client)
        self._doc: Document | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._subscription = ExitStack()
        self._pending = False
        self._toasts: dict[int, tuple[Literal["ok", "bad"], str]] = {}
        self._question = FormDialog(words)
        self.header = View(self._act)
        self.navigation = View(self._act, navigates=True)
        self.main = ui.Column(sizing_mode="stretch_width")
        self._desk = Desk(user, self._client, runtime.router, self._store, words, self.go, self.say, self._question.ask)
        self._name, self._page = self._open(url)
        self._show()

    @property
    def dialog(self) -> ui.Dialog:
        """The dialog for questions."""
        return self._question.dialog

    async def start(self, doc: Document) -> None:
        """Begin to follow the fleet. Called once the browser is connected."""
        self._doc = doc
        self._subscription.enter_context(self._store.subscribed(self._changed))
        self._tasks.append(self._runtime.spawn(self._guard(), "tab-guard"))
        if self._runtime.store is None:
            self._tasks.append(self._runtime.spawn(self._follow(), "tab-store"))
        await self._page.enter()

    def stop(self) -> None:
        """Stop following. Called when the tab is gone."""
        self._subscription.close()
        for task in self._tasks:
            task.cancel()
        self._runtime.spawn(self._finish(), "tab-finish")

    async def go(self, url: str) -> None:
        """Show another page and put its address in the address bar."""
        self.navigation.go(url)
        await self._visit(url)

    def say(self, kind: Literal["ok", "bad"], message: str) -> None:
        """Show a message for a few seconds."""
        number = max(self._toasts, default=0) + 1
        self._toasts[number] = (kind, message)
        self._show_navigation()
        self._tasks.append(self._runtime.spawn(self._forget(number), "tab-toast"))

    async def _visit(self, url: str) -> None:
        name, page = self._open(url)
        await self._page.leave()
        self._name, self._page = name, page
        self._show()
        await page.enter()

    def _open(self, url: str) -> tuple[str, Page]:
        parts = urlsplit(url)
        name = parts.path.strip("/")
        name = name if name in PAGES else next(iter(PAGES))
        return name, PAGES[name].page(self._desk, dict(parse_qsl(parts.query)))

    def _show(self) -> None:
        self._page.refresh()
        self.main.objects = self._page.content()
        self._show_navigation()
        self.header.draw(render("header.html", self._words, user=self._user, here=f"/{self._name}"))

    def _show_navigation(self) -> None:
        snapshot = self._store.snapshot
        wrong = [alert for alert in alerts.find(snapshot, self._words) if alert.kind == "bad"]
        running = [job for job in snapshot.jobs if job.status is JobStatus.RUNNING]
        counts = {"overview": ("bad", len(wrong)), "jobs": ("info", len(running))}
        context = {"pages": PAGES, "current": self._name, "counts": counts, "toasts": self._toasts}
        self.navigation.draw(render("navigation.html", self._words, **context))

    def _changed(self) -> None:
        if self._doc is not None and not self._pending:
            self._pending = True
            self._doc.add_next_tick_callback(self._refresh)

    def _refresh(self) -> None:
        self._pending = False
        self._page.refresh()
        self._show_navigation()

    async def _act(self, action: Action) -> None:
        if action.name == "go":
            await self._visit(action.value)
        elif action.name == "dismiss":
            self._toasts.pop(int(action.value), None)
            self._show_navigation()

    async def _forget(self, number: int) -> None:
        await asyncio.sleep(TOAST_S)
        if self._toasts.pop(number, None) and self._doc is not None:
            self._doc.add_next_tick_callback(self._show_navigation)

    async def _follow(self) -> None:
        try:
            await self._store.run()
        except* NotSignedIn:
            self._leave()

    async def _guard(self) -> None:
        """Send the tab to the login page when its session has ended, here or anywhere else."""
        looks = 0
        while self._runtime.sessions.knows(self._user.session_id):
            await asyncio.sleep(LOOK_S)
            looks += 1
            if looks % ASK_EVERY == 0:
                try:
                    await self._runtime.sessions.check(self._user.session_id)
                except NotSignedIn:
                    break
                except ApiError:
                    continue
        self._leave()

    def _leave(self) -> None:
        if self._doc is not None:
            self._doc.add_next_tick_callback(lambda: self.navigation.leave("/login"))

    async def _finish(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._page.leave()
        await self._client.aclose()
