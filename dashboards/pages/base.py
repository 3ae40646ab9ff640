"""What every page has: the fleet, the user's own client, the language, and ways to go somewhere and to say something."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import panel as pn
from markupsafe import Markup

from control_api.client import ApiError, Client
from dashboards.auth import SignedIn
from dashboards.components.listing import Listing
from dashboards.components.view import Action, View
from dashboards.i18n import Language
from dashboards.router_client import RouterClient
from dashboards.store import FleetStore
from dashboards.templating import render
from dashboards.web import explain


class Ask(Protocol):
    """Ask the user before something is done that cannot be taken back or that others notice."""

    def __call__(
        self,
        title: str,
        text: str,
        action: str,
        do: Callable[[], Awaitable[None]],
        *,
        danger: bool = True,
        fields: Sequence[Any] = (),
    ) -> None:
        """Show a question with ``action`` as the answer that does it; ``danger``: it cannot be taken back."""


@dataclass(frozen=True)
class Desk:
    """What a page works with.

    ``client`` carries the token of the user who is looking. ``change`` does something to what is shown, soon, and alone:
    Panel's components must not be touched by two tasks at a time.
    """

    user: SignedIn
    client: Client
    router: RouterClient
    store: FleetStore
    words: Language
    change: Callable[[Callable[[], None]], None]
    go: Callable[[str], Awaitable[None]]
    say: Callable[[Literal["ok", "bad"], str], None]
    ask: Ask


class Page:
    """One page of one session. Only the page that is shown is kept up to date."""

    template: str
    listing: Listing[Any] | None = None

    def __init__(self, desk: Desk, query: Mapping[str, str]) -> None:
        self.desk = desk
        self.query = dict(query)
        self.view = View(self.act)
        self._drawing = False

    def context(self) -> dict[str, Any]:
        """Return what the template shows beside the fleet."""
        return {}

    async def act(self, action: Action) -> None:
        """Do what the user asked for; links, lists and reading anew are the same everywhere."""
        if action.name == "go":
            await self.desk.go(action.value)
        elif action.name == "reload":
            self.desk.store.touch()
        elif self.listing and self.listing.take(action):
            self.refresh()

    async def enter(self) -> None:
        """Start what the page needs while it is shown."""
        self.refresh()

    async def leave(self) -> None:
        """Stop what ``enter`` started."""

    def content(self) -> list[pn.viewable.Viewable]:
        """Return what is shown, from top to bottom."""
        return [self.view]

    def refresh(self) -> None:
        """Have what has changed shown; however often it is called, it is drawn once."""
        if not self._drawing:
            self._drawing = True
            self.desk.change(self._draw_once)

    def _draw_once(self) -> None:
        self._drawing = False
        self.draw()

    def draw(self) -> None:
        """Show the page as it is now. Only where nothing else touches what is shown: see ``Desk.change``."""
        self.view.draw(self.html())

    def html(self) -> Markup:
        """Return the page's markup."""
        snapshot = self.desk.store.snapshot
        problem = explain(snapshot.problem, self.desk.words) if snapshot.problem else None
        common = {"snapshot": snapshot, "problem": problem, "user": self.desk.user, "listing": self.listing}
        return render(self.template, self.desk.words, **common, **self.context())

    def text(self, message: str) -> str:
        """Return a text in the user's language."""
        return self.desk.words.gettext(message)

    @contextmanager
    def reporting(self, done: str | None = None) -> Iterator[None]:
        """Tell the user when what is done inside fails; ``done``: what to say when it does not."""
        try:
            yield
        except ApiError as error:
            self.desk.say("bad", explain(error, self.desk.words))
            return
        if done:
            self.desk.say("ok", done)
