"""Wire schemas of users, sessions, API keys and settings."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Len, MaxLen
from pydantic import StringConstraints

from control_api.kit.wire import IdStr, Instant, LineStr, ModelIdStr, NameStr, Out, Wire

Bytes = Annotated[int, Ge(0), Le(1 << 50)]
PlacementPolicy = Literal["registered", "best-fit", "all", "off"]
Password = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
DeviceToken = Annotated[str, StringConstraints(max_length=1024)]
PerMinute = Annotated[int, Ge(1), Le(1_000_000_000)]
NewPassword = Annotated[str, StringConstraints(min_length=10, max_length=1024)]


class Scope(StrEnum):
    """What a key or user may do. ``admin`` includes all others, ``operate`` includes ``read``."""

    INFERENCE = "inference"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


class LoginRequest(Wire):
    """``POST /v0/auth/login``. ``device``: what the last login of this browser was answered with, if there was one."""

    username: LineStr
    password: Password
    device: DeviceToken | None = None


class SetupRequest(Wire):
    """``POST /v0/auth/setup``: the first admin, by the one-time token printed at first start."""

    token: LineStr
    username: NameStr
    password: NewPassword


class SessionRequest(Wire):
    """``POST /v0/auth/refresh`` and ``/v0/auth/logout``."""

    session_id: LineStr


class UserOut(Out):
    """A user as others see it."""

    id: str
    name: str
    scopes: list[str]


class SessionOut(Out):
    """A session and the short-lived token that goes with it. ``device``: for this browser's next login."""

    session_id: str
    access_token: str
    expires_in_s: int
    user: UserOut
    device: str | None = None


class InferenceTokenRequest(Wire):
    """``POST /v0/auth/inference-token``. ``node_ids``: nodes that the token may pin; null: none."""

    node_ids: Annotated[list[IdStr], MaxLen(1000)] | None = None


class InferenceTokenOut(Out):
    """A token of at most ten minutes for the router."""

    token: str
    expires_at: datetime
    router_url: str


class ApiKeyCreate(Wire):
    """``POST /v0/api-keys``."""

    name: LineStr
    scopes: Annotated[list[Scope], Len(1, len(Scope))] = [Scope.INFERENCE]
    models: Annotated[list[ModelIdStr], MaxLen(1000)] | None = None
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    expires_at: Instant | None = None


class ApiKeyOut(Out):
    """An API key without its secret."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    models: list[str] | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None


class ApiKeyCreated(ApiKeyOut):
    """An API key at the only moment when its secret is shown."""

    key: str


class PreferencesPatch(Wire):
    """``PATCH /v0/settings``: what is given changes, null goes back to the default."""

    auto_distribution: PlacementPolicy | None = None
    memory_reserve_bytes: Bytes | None = None
    disk_reserve_bytes: Bytes | None = None


class PreferenceOut(Out):
    """A setting: its value, what it is if nobody changes it, and who changed it last."""

    name: str
    value: Any
    default: Any
    changed_by: str | None
    changed_at: datetime | None


class SettingChangeOut(Out):
    """One change of a setting."""

    id: str
    name: str
    value: Any
    changed_by: str
    changed_at: datetime
