"""Pages as Python objects: a desk to work at, and what they did there."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from control_api.client import Client
from dashboards.auth import SignedIn
from dashboards.i18n import language
from dashboards.pages import PAGES
from dashboards.pages.base import Desk, Page
from dashboards.router_client import RouterClient
from dashboards.store import FleetStore


@dataclass
class Office:
    """A desk, and what pages did with it."""

    client: Client
    router: RouterClient
    store: FleetStore
    went: list[str] = field(default_factory=list)
    said: list[tuple[str, str]] = field(default_factory=list)
    asked: list[tuple[str, Callable[[], Awaitable[None]]]] = field(default_factory=list)

    def open(
        self, name: str, query: Mapping[str, str] | None = None, *, scopes: tuple[str, ...] = ("admin",), lang: str = "en"
    ) -> Page:
        user = SignedIn("s", "alice", frozenset(scopes), "token", 0.0)
        desk = Desk(user, self.client, self.router, self.store, language(lang), self._change, self._go, self._say, self._ask)
        return PAGES[name].page(desk, query or {})

    def _change(self, change: Callable[[], None]) -> None:
        change()

    async def _go(self, url: str) -> None:
        self.went.append(url)

    def _say(self, kind: str, message: str) -> None:
        self.said.append((kind, message))

    def _ask(
        self,
        title: str,
        text: str,
        action: str,
        do: Callable[[], Awaitable[None]],
        *,
        danger: bool = True,
        fields: Sequence[Any] = (),
    ) -> None:
        self.asked.append((title, do))
