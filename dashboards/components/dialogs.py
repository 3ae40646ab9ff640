"""Dialogs: a question before something is done, and forms. Panel's own components, so that focus stays inside them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import panel as pn
from panel import ui
from pydantic import ValidationError

from control_api.client import ApiError
from dashboards.components.view import View
from dashboards.i18n import Language
from dashboards.templating import render
from dashboards.web import explain

# The second click of a double click comes within this. Longer than the wait that systems are set to.
DOUBLE_CLICK_S = 0.6

type Doing = Callable[[], Awaitable[None]]
type Change = Callable[[Callable[[], None]], None]


def typed(field: ui.TextInput) -> str:
    """Return what a text field holds now, also when the user has not left it yet."""
    return (field.value_input or "").strip()


class FormDialog:
    """A dialog with fields and a button that does something; it stays open and says why when that fails."""

    def __init__(self, words: Language, change: Change, title: str = "", action: str = "") -> None:
        self._words = words
        self._change = change
        self._lead = ""
        self._do: Doing | None = None
        self._busy = False
        self._asked = 0
        self._text = View(margin=(0, 10, 8, 10))
        self._fields = ui.Column(sizing_mode="stretch_width")
        whole = {"whiteSpace": "nowrap"}
        self._accept = ui.Button(label=action, color="primary", variant="contained", sx=whole)
        self._cancel = ui.Button(label=words.gettext("Cancel"), color="default", variant="text", sx=whole)
        self._accept.on_click(self._accepted)
        self._cancel.on_click(self._cancelled)
        buttons = ui.Row(pn.Spacer(sizing_mode="stretch_width"), self._cancel, self._accept, sizing_mode="stretch_width")
        self.dialog = ui.Dialog(
            self._text, self._fields, buttons, title=title, title_variant="h5", width_option="sm", sizing_mode="stretch_width"
        )

    def ask(self, title: str, text: str, action: str, do: Doing, *, danger: bool = True, fields: Sequence[Any] = ()) -> None:
        """Open the dialog as a question; ``danger``: the answer cannot be taken back."""

        def show() -> None:
            self._fields.objects = list(fields)
            self.dialog.title, self._accept.label = title, action
            self._accept.color = "error" if danger else "primary"
            self._open(text, do)

        self._asked += 1
        self._change(show)

    def fill(self, text: str, fields: list[Any], do: Doing) -> None:
        """Open the dialog with fields."""

        def show() -> None:
            self._fields.objects = fields
            self._open(text, do)

        self._asked += 1
        self._change(show)

    async def _cancelled(self, _: object) -> None:
        self._change(self._close)

    def _close(self) -> None:
        self.dialog.open = False

    def _open(self, text: str, do: Doing) -> None:
        self._do = do
        self._show(text)
        self._lead = text
        self.dialog.open = True

    def _show(self, text: str, problem: str | None = None) -> None:
        self._text.draw(render("dialog.html", self._words, text=text, problem=problem))

    async def _accepted(self, _: object) -> None:
        do = self._do
        if do is None or self._busy:
            return
        self._busy, asked = True, self._asked
        self._change(self._doing)
        problem: str | None = self._words.gettext("This went wrong. The log of the dashboard says why.")
        try:
            await do()
            problem = None
            if asked != self._asked:  # It asks the next question, to which the second click of a double click is no answer.
                await asyncio.sleep(DOUBLE_CLICK_S)
        except ApiError as error:
            problem = explain(error, self._words)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
        except ValueError as error:
            problem = str(error)
        finally:
            self._change(lambda: self._ended(do, problem))

    def _doing(self) -> None:
        self._accept.disabled = True

    def _ended(self, did: Doing, problem: str | None) -> None:
        self._accept.disabled = self._busy = False
        if problem:
            self._show(self._lead, problem)
        elif did is self._do:
            self._do = None
            self._close()
