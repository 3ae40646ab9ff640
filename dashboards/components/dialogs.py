"""Dialogs: a question before something is done, and forms. Panel's own components, so that focus stays inside them."""

from collections.abc import Awaitable, Callable
from typing import Any

import panel as pn
from panel import ui
from pydantic import ValidationError

from control_api.client import ApiError
from dashboards.components.view import View
from dashboards.i18n import Language
from dashboards.templating import render
from dashboards.web import explain

type Doing = Callable[[], Awaitable[None]]


def typed(field: ui.TextInput) -> str:
    """Return what a text field holds now, also when the user has not left it yet."""
    return (field.value_input or "").strip()


class FormDialog:
    """A dialog with fields and a button that does something; it stays open and says why when that fails."""

    def __init__(self, words: Language, title: str = "", action: str = "") -> None:
        self._words = words
        self._do: Doing | None = None
        self._text = View(margin=(0, 10, 8, 10))
        self._fields = ui.Column(sizing_mode="stretch_width")
        self._accept = ui.Button(label=action, color="primary", variant="contained")
        self._cancel = ui.Button(label=words.gettext("Cancel"), color="default", variant="text")
        self._accept.on_click(self._accepted)
        self._cancel.on_click(lambda _: self.close())
        buttons = ui.Row(pn.Spacer(sizing_mode="stretch_width"), self._cancel, self._accept, sizing_mode="stretch_width")
        self.dialog = ui.Dialog(
            self._text, self._fields, buttons, title=title, title_variant="h5", width_option="sm", sizing_mode="stretch_width"
        )

    def ask(self, title: str, text: str, action: str, do: Doing, *, danger: bool = True) -> None:
        """Open the dialog as a question; ``danger``: the answer cannot be taken back."""
        self.dialog.title, self._accept.label = title, action
        self._accept.color = "error" if danger else "primary"
        self._open(text, do)

    def fill(self, text: str, fields: list[Any], do: Doing) -> None:
        """Open the dialog with fields."""
        self._fields.objects = fields
        self._open(text, do)

    def close(self) -> None:
        """Close the dialog."""
        self.dialog.open = False

    def _open(self, text: str, do: Doing) -> None:
        self._do = do
        self._show(text)
        self.dialog.open = True
        self._lead = text

    def _show(self, text: str, problem: str | None = None) -> None:
        self._text.draw(render("dialog.html", self._words, text=text, problem=problem))

    async def _accepted(self, _: object) -> None:
        if self._do is None:
            return
        self._accept.loading = True
        try:
            await self._do()
        except ApiError as error:
            self._show(self._lead, explain(error, self._words))
        except ValidationError as error:
            self._show(self._lead, error.errors()[0]["msg"])
        except ValueError as error:
            self._show(self._lead, str(error))
        else:
            self.close()
        finally:
            self._accept.loading = False
