"""The playground: a chat through the router, with the user's own short-lived token."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import panel as pn
from markupsafe import Markup
from panel import ui
from panel.viewable import Viewable

from control_api.client import ApiError
from dashboards.components import markdown
from dashboards.components.dialogs import typed
from dashboards.components.view import Action, View
from dashboards.pages.base import Desk, Page
from dashboards.router_client import ChatError, Piece
from dashboards.templating import render
from dashboards.web import explain

# An answer that grows is shown at most this often, and rests ten times as long as it took: others want to be served, too.
SHOW_S = 0.08
REST = 10
# A longer answer is stopped.
ANSWER_CHARS = 1 << 20


@dataclass
class Turn:
    """One thing said. ``error``: why there is no answer; it takes the place of what had come."""

    role: str
    text: str
    error: str | None = None
    pending: bool = False
    node: str = ""
    took_s: float = 0.0
    first_s: float | None = None
    tokens: int | None = None
    stopped: bool = False
    _read: tuple[str, Markup] = field(default=("", Markup()), repr=False)

    @property
    def html(self) -> Markup:
        """The text as markup: Markdown for answers, read again only when it has changed; raw HTML in it stays text."""
        begin, rest = markdown.parted(self.text)
        if begin != self._read[0]:
            self._read = begin, markdown.markup(begin)
        return self._read[1] + markdown.plain(rest)


class Playground(Page):
    """Asks a model and shows the answer as it comes."""

    template = "playground.html"

    def __init__(self, desk: Desk, query: dict[str, str]) -> None:
        super().__init__(desk, query)
        _ = self.text
        self._any = _("Any node")
        self._turns: list[Turn] = []
        self._models: list[str] = []
        self._problem: str | None = None
        self._answering: asyncio.Task[None] | None = None
        slim: dict[str, Any] = {"size": "small", "margin": 0}
        narrow, wide = {"flex": "1 1 150px", "max-width": "280px"}, {"flex": "2 1 240px"}
        self._model = ui.Select(label=_("Model"), options=[], styles=narrow, **slim)
        self._node = ui.Select(label=_("Node"), options=[self._any], value=self._any, styles=narrow, **slim)
        self._system = ui.TextInput(label=_("System prompt"), max_length=20_000, styles=wide, **slim)
        self._input = ui.ChatAreaInput(
            placeholder=_("Ask something…"), enable_upload=False, sizing_mode="stretch_width", max_rows=8, margin=(12, 0, 0, 0)
        )
        self._input.param.watch(self._send, "value")
        self._input.on_action("stop", lambda _: pn.state.execute(self._stopped))
        self._talk = View(self.act)

    def content(self) -> list[Viewable]:
        """Return the choices, the conversation and the input."""
        choices = ui.FlexBox(
            self._model, self._node, self._system, gap="12px", sizing_mode="stretch_width", margin=(18, 0, 14, 0)
        )
        return [self.view, choices, self._talk, self._input]

    def draw(self) -> None:
        """Show the conversation and what can be chosen."""
        super().draw()
        if self._model.options != self._models:
            wanted = self.query.get("model")
            self._model.options = self._models
            if self._models and self._model.value not in self._models:
                self._model.value = wanted if wanted in self._models else self._models[0]
        self._input.loading = self._busy
        self._talk.draw(self._conversation())
        nodes = [
            node.name
            for node in self.desk.store.snapshot.nodes
            if node.state in ("online", "registering", "draining", "drained")
        ]
        if self._node.options != [self._any, *nodes] and self.desk.user.may_operate:
            self._node.options = [self._any, *nodes]

    async def enter(self) -> None:
        """Ask the router what can be asked."""
        self.refresh()
        await self._read_models()

    async def leave(self) -> None:
        """Stop an answer that is still coming."""
        self._stop()
        if self._answering:
            await asyncio.gather(self._answering, return_exceptions=True)
        await super().leave()

    async def act(self, action: Action) -> None:
        """Send a suggestion, start over, or look for models again."""
        if action.name == "say":
            self._start(action.value)
        elif action.name == "clear":
            self._stop()
            self._turns = []
            self.refresh()
        elif action.name == "models":
            await self._read_models()
        else:
            await super().act(action)

    def _conversation(self) -> Markup:
        ready = bool(self._models)
        return render(
            "conversation.html", self.desk.words, turns=self._turns, ready=ready, problem=self._problem, model=self._model.value
        )

    async def _read_models(self) -> None:
        try:
            token = await self.desk.client.auth.inference_token()
            models = await self.desk.router.models(token.token)
        except (ApiError, ChatError) as error:
            self._problem = explain(error, self.desk.words) if isinstance(error, ApiError) else str(error)
            self.refresh()
            return
        self._problem, self._models = None, models
        self.refresh()

    async def _send(self, event: Any) -> None:
        if event.new:
            self._start(str(event.new))

    @property
    def _busy(self) -> bool:
        return bool(self._turns) and self._turns[-1].pending

    def _start(self, text: str) -> None:
        if not text.strip() or not self._model.value or self._busy:
            return
        self._turns += [Turn("user", text.strip()), Turn("assistant", "", pending=True)]
        self.refresh()
        self._answering = asyncio.create_task(self._answer(self._turns[-1]), name="chat")

    async def _stopped(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._answering and not self._answering.done():
            self._answering.cancel()

    async def _answer(self, turn: Turn) -> None:
        started = time.monotonic()
        try:
            await self._stream(turn, started)
        except asyncio.CancelledError:
            turn.stopped = True
        except ChatError as error:
            turn.text, turn.error = "", str(error)
        except ApiError as error:
            turn.text, turn.error = "", explain(error, self.desk.words)
        finally:
            turn.pending = False
            turn.took_s = time.monotonic() - started
            self.refresh()

    async def _stream(self, turn: Turn, started: float) -> None:
        pinned = next((node.id for node in self.desk.store.snapshot.nodes if node.name == self._node.value), None)
        token = await self.desk.client.auth.inference_token(node_ids=[pinned] if pinned else None)
        came, room, next_show = list[str](), ANSWER_CHARS, started
        try:
            async with aclosing(self.desk.router.chat(token.token, self._model.value, self._messages(), pinned)) as pieces:
                async for piece in pieces:
                    self._note(turn, piece, started)
                    # Joined when it is shown: a text that grows piece by piece would be copied for each.
                    came.append(piece.text[:room])
                    room -= len(piece.text)
                    if room < 0:
                        turn.stopped = True
                        break
                    if time.monotonic() >= next_show:
                        next_show = self._show(turn, came)
        finally:
            turn.text += "".join(came)

    def _note(self, turn: Turn, piece: Piece, started: float) -> None:
        if turn.first_s is None and piece.text:
            turn.first_s = time.monotonic() - started
        node = self.desk.store.snapshot.node(piece.node)
        turn.node = node.name if node else piece.node
        turn.tokens = piece.completion_tokens or turn.tokens

    def _show(self, turn: Turn, came: list[str]) -> float:
        """Show what has come, and return when to do so again."""
        began = time.monotonic()
        turn.text += "".join(came)
        came.clear()
        self.refresh()
        ended = time.monotonic()
        return ended + max(SHOW_S, REST * (ended - began))

    def _messages(self) -> list[dict[str, str]]:
        system = typed(self._system)
        said = [{"role": turn.role, "content": turn.text} for turn in self._turns if turn.text and not turn.error]
        return ([{"role": "system", "content": system}] if system else []) + said
