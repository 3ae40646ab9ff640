"""The API keys: who may ask the router and the control API, for what, and how much."""

from datetime import UTC, datetime, timedelta
from typing import Any

from panel import ui
from panel.viewable import Viewable

from control_api.client import ApiError
from control_api.client.schemas import ApiKeyCreate, ApiKeyCreated, ApiKeyOut, Scope
from dashboards.components.dialogs import FormDialog, typed
from dashboards.components.listing import Listing
from dashboards.components.view import Action
from dashboards.pages.base import Desk, Page
from dashboards.web import explain


class Keys(Page):
    """Lists keys, makes them, shows each new secret once, and revokes them. For administrators."""

    template = "keys.html"
    listing: Listing[ApiKeyOut]

    def __init__(self, desk: Desk, query: dict[str, str]) -> None:
        super().__init__(desk, query)
        self.listing = Listing(
            {"name": lambda key: key.name.lower(), "created": lambda key: key.created_at},
            lambda key: f"{key.name} {key.prefix} {' '.join(key.scopes)} {' '.join(key.models or [])}",
            order="created",
            descending=True,
        )
        self._form = FormDialog(desk.words, desk.change, self.text("Make an API key"), self.text("Make the key"))
        self._keys: list[ApiKeyOut] | None = None
        self._made: ApiKeyCreated | None = None
        self._refusal: str | None = None

    def content(self) -> list[Viewable]:
        """Return the list and its dialog."""
        return [self.view, self._form.dialog]

    def context(self) -> dict[str, Any]:
        """Return the keys, the one that was just made, or why they cannot be shown."""
        return {
            "keys": self._keys,
            "rows": self.listing.rows(self._keys or []),
            "made": self._made,
            "refusal": self._refusal,
            "now": datetime.now(UTC),
        }

    async def enter(self) -> None:
        """Read the keys."""
        self.refresh()
        await self._read()

    async def act(self, action: Action) -> None:
        """Make or revoke a key, or put the new one's secret away."""
        if action.name == "create":
            self._create()
        elif action.name == "revoke":
            self._ask_revoke(action.value)
        elif action.name == "stored":
            self._made = None
            self.refresh()
        elif action.name == "reload":
            await self._read()
            await super().act(action)
        else:
            await super().act(action)

    async def _read(self) -> None:
        try:
            self._keys, self._refusal = await self.desk.client.keys.list(), None
        except ApiError as error:
            self._refusal = explain(error, self.desk.words)
        self.refresh()

    def _ask_revoke(self, key_id: str) -> None:
        key = next((key for key in self._keys or [] if key.id == key_id), None)
        if key is None:
            return

        async def revoke() -> None:
            await self.desk.client.keys.delete(key.id)
            self._made = None if self._made and self._made.id == key.id else self._made
            await self._read()

        text = self.text("Whoever uses it is refused within a second. It cannot be brought back.")
        self.desk.ask(self.text("Revoke the key %s?") % key.name, text, self.text("Revoke the key"), revoke)

    def _create(self) -> None:
        fields = KeyFields(self)

        async def create() -> None:
            self._made = await self.desk.client.keys.create(fields.wanted())
            await self._read()

        lead = self.text("Its secret is shown once, right after it is made.")
        self._form.fill(lead, fields.all, create)


class KeyFields:
    """The fields of a new key."""

    def __init__(self, page: Page) -> None:
        _ = self.text = page.text
        wide: dict[str, Any] = {"sizing_mode": "stretch_width"}
        self._name = ui.TextInput(label=_("Name: who or what it is for"), placeholder="billing-service", max_length=256, **wide)
        self._scopes = {
            Scope.INFERENCE: ui.Checkbox(label=_("inference: ask models through the router"), value=True),
            Scope.READ: ui.Checkbox(label=_("read: see everything here"), value=False),
            Scope.OPERATE: ui.Checkbox(label=_("operate: change hosts, nodes and models"), value=False),
            Scope.ADMIN: ui.Checkbox(label=_("admin: keys and settings too"), value=False),
        }
        models = [model.id for model in page.desk.store.snapshot.models]
        self._models = ui.MultiChoice(label=_("Only these models (none chosen: all)"), options=models, value=[], **wide)
        self._requests = ui.TextInput(label=_("Requests per minute"), placeholder=_("no limit"), **wide)
        self._tokens = ui.TextInput(label=_("Tokens per minute"), placeholder=_("no limit"), **wide)
        self._days = {_("Never"): None, _("In 30 days"): 30, _("In 90 days"): 90, _("In a year"): 365}
        self._expires = ui.Select(label=_("Expires"), options=list(self._days), value=_("Never"), **wide)
        limits = ui.Row(self._requests, self._tokens, **wide)
        self.all: list[Any] = [self._name, *self._scopes.values(), self._models, limits, self._expires]

    def wanted(self) -> ApiKeyCreate:
        """Return what was filled in. Raises ValueError that names what is wrong."""
        name = typed(self._name)
        if not name:
            raise ValueError(self.text("Give the key a name, so that others know whose it is."))
        scopes = [scope for scope, box in self._scopes.items() if box.value]
        if not scopes:
            raise ValueError(self.text("Choose at least one thing that the key may do."))
        days = self._days[self._expires.value]
        return ApiKeyCreate(
            name=name,
            scopes=scopes,
            models=list(self._models.value or []) or None,
            requests_per_minute=self._limit(self._requests),
            tokens_per_minute=self._limit(self._tokens),
            expires_at=datetime.now(UTC) + timedelta(days=days) if days else None,
        )

    def _limit(self, field: ui.TextInput) -> int | None:
        given = typed(field).replace(",", "").replace("_", "")
        if not given:
            return None
        if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= 1_000_000_000:
            raise ValueError(self.text("%s: a whole number from 1 to 1,000,000,000, or nothing.") % field.label)
        return int(given)
