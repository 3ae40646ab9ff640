"""Keys and settings of the fake control API: what only administrators are shown."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter

from control_api.client.schemas import ApiKeyOut, PreferenceOut, SettingChangeOut
from tests.dashboards import fleet_data as data

SECRET = "mk_only-shown-once"


def key(number: int, name: str, **fields: Any) -> ApiKeyOut:
    """Return an API key as the list shows it."""
    defaults: dict[str, Any] = {
        "id": data.identifier(700 + number),
        "name": name,
        "prefix": f"mk_a1b{number}",
        "scopes": ["inference"],
        "models": None,
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "created_at": data.ago(86_400 * number),
        "expires_at": None,
    }
    return ApiKeyOut.model_validate(defaults | fields)


class Admin:
    """The keys and settings of a fleet."""

    def __init__(self) -> None:
        self.keys = [
            key(1, "billing-service", models=["gpt-oss:20b"], requests_per_minute=600, tokens_per_minute=200_000),
            key(2, "ci", scopes=["operate"], expires_at=data.ago(-86_400 * 60)),
            key(3, "old-notebook", scopes=["inference", "read"], expires_at=data.ago(3600)),
        ]
        self.values: dict[str, Any] = {"auto_distribution": "best-fit"}
        self.changes = [_change(1, "auto_distribution", "best-fit")]

    def settings(self) -> list[PreferenceOut]:
        """Return the settings with who changed them."""
        defaults = {"auto_distribution": "registered", "memory_reserve_bytes": 1 << 29, "disk_reserve_bytes": 1 << 30}
        last = {change.name: change for change in reversed(self.changes)}
        return [
            PreferenceOut(
                name=name,
                value=self.values.get(name, default),
                default=default,
                changed_by=last[name].changed_by if name in last else None,
                changed_at=last[name].changed_at if name in last else None,
            )
            for name, default in defaults.items()
        ]

    def router(self) -> APIRouter:
        """Return the endpoints."""
        router = APIRouter(prefix="/v0")

        @router.get("/api-keys")
        async def keys() -> Any:
            return {"items": [key.model_dump(mode="json") for key in self.keys], "next_cursor": None}

        @router.post("/api-keys", status_code=201)
        async def add_key(body: dict[str, Any]) -> Any:
            made = key(len(self.keys) + 1, **body, created_at=datetime.now(UTC))
            self.keys.append(made)
            return made.model_dump(mode="json") | {"key": SECRET}

        @router.delete("/api-keys/{key_id}", status_code=204)
        async def delete_key(key_id: str) -> None:
            self.keys = [key for key in self.keys if key.id != key_id]

        @router.get("/settings")
        async def settings() -> Any:
            return {"items": [setting.model_dump(mode="json") for setting in self.settings()], "next_cursor": None}

        @router.patch("/settings")
        async def change(body: dict[str, Any]) -> Any:
            for name, value in body.items():
                self.values = {k: v for k, v in (self.values | {name: value}).items() if v is not None}
                self.changes.insert(0, _change(len(self.changes) + 1, name, value))
            return await settings()

        @router.get("/settings/changes")
        async def changes() -> Any:
            return {"items": [change.model_dump(mode="json") for change in self.changes], "next_cursor": None}

        return router


def _change(number: int, name: str, value: Any) -> SettingChangeOut:
    at = datetime.now(UTC) if number > 1 else data.ago(5400)
    return SettingChangeOut(id=data.identifier(800 + number), name=name, value=value, changed_by="user:alice", changed_at=at)
