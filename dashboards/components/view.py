"""A Panel component that shows rendered HTML and reports what the user does in it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import panel as pn
import param
import structlog
from panel.custom import JSComponent

log = structlog.get_logger()

HERE = Path(__file__).parent
STYLES = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("muster.css", "lists.css"))
SCRIPT = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("patch.js", "view.js"))
# What a browser sends is cut to this before anybody looks at it.
LONGEST_VALUE = 100_000


@dataclass(frozen=True)
class Action:
    """Something the user did: the element's ``data-action`` and its ``data-value``."""

    name: str
    value: str = ""


type ActionHandler = Callable[[Action], Awaitable[None]]


class View(JSComponent):
    """Shows ``html``, patching what is there, and calls the handler for each action of the user.

    Elements with ``data-action`` report clicks (fields with ``data-on``: that event), links with
    ``data-nav`` change the page without loading it again, ``<time datetime>`` is shown in the user's zone and language.
    A button that is pressed again before its handler has ended does nothing; one with ``data-copy`` copies that text.
    """

    html = param.String(default="", doc="Trusted markup: rendered by a template that escapes.")
    navigates = param.Boolean(default=False, doc="Whether this view reports the browser's back and forward buttons.")

    _esm = SCRIPT
    _stylesheets: ClassVar[list[str]] = [STYLES]

    def __init__(self, on_action: ActionHandler | None = None, **params: Any) -> None:
        params.setdefault("sizing_mode", "stretch_width")
        super().__init__(**params)
        self._on_action = on_action

    def _handle_msg(self, data: Any) -> None:
        action = _parse(data)
        if action is None or self._on_action is None:
            return
        handler = self._on_action

        async def run() -> None:
            try:
                await handler(action)
            finally:
                self._send_msg({"done": {"action": action.name, "value": action.value}})

        pn.state.execute(run)

    def draw(self, html: str) -> None:
        """Show ``html``; nothing is sent when it is what is shown already."""
        if html != self.html:
            self.html = html

    def append(self, element_id: str, html: str) -> None:
        """Add markup to the end of an element of ``html`` that is marked ``data-keep``."""
        self._send_msg({"append": html, "to": element_id})

    def go(self, url: str) -> None:
        """Put ``url`` in the address bar without loading it."""
        self._send_msg({"go": url})

    def leave(self, url: str) -> None:
        """Make the browser load ``url``."""
        self._send_msg({"leave": url})


def _parse(data: Any) -> Action | None:
    """Return what a browser sent, or None if it is nothing that our script sends."""
    if not isinstance(data, dict) or not isinstance(data.get("action"), str):
        return None
    return Action(data["action"], str(data.get("value", ""))[:LONGEST_VALUE])
