"""Tables and wire schemas of users, sessions, API keys and signing keys."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import sqlalchemy as sa
from annotated_types import Ge, Le, MinLen
from pydantic import AwareDatetime, StringConstraints
from sqlmodel import Field

from control_api.kit.clock import utcnow
from control_api.kit.ids import new_id
from control_api.kit.tables import ControlTable
from control_api.kit.wire import IdStr, LineStr, ModelIdStr, NameStr, Out, Wire

Password = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
PerMinute = Annotated[int, Ge(1), Le(1_000_000_000)]
NewPassword = Annotated[str, StringConstraints(min_length=10, max_length=1024)]


class Scope(StrEnum):
    """What a key or user may do. ``admin`` includes all others, ``operate`` includes ``read``."""

    INFERENCE = "inference"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


class User(ControlTable, table=True):
    """A person who logs in to the dashboard."""

    __tablename__ = "user"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    name: str = Field(unique=True, max_length=64)
    password_hash: str
    scopes: list[str] = Field(sa_type=sa.JSON)
    created_at: datetime = Field(default_factory=utcnow)


class UserSession(ControlTable, table=True):
    """A browser's session: an opaque id, stored hashed, with sliding expiry."""

    __tablename__ = "user_session"

    id_hash: str = Field(primary_key=True, max_length=64)
    user_id: str = Field(foreign_key="user.id", ondelete="CASCADE", index=True, max_length=36)
    created_at: datetime = Field(default_factory=utcnow)
    expires_at: datetime


class ApiKey(ControlTable, table=True):
    """An API key, stored hashed. ``models`` limits inference to these model ids; null means all, as no limit per minute."""

    __tablename__ = "api_key"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    name: str = Field(max_length=128)
    key_hash: str = Field(unique=True, max_length=64)
    prefix: str = Field(max_length=16)
    scopes: list[str] = Field(sa_type=sa.JSON)
    models: list[str] | None = Field(default=None, sa_type=sa.JSON)
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    created_at: datetime = Field(default_factory=utcnow)
    expires_at: datetime | None = None


class SigningKey(ControlTable, table=True):
    """An Ed25519 pair: the API signs tokens, routers verify them with the public half."""

    __tablename__ = "signing_key"

    kid: str = Field(primary_key=True, max_length=36)
    public_pem: str
    private_encrypted: str
    created_at: datetime = Field(default_factory=utcnow)


class RevokedToken(ControlTable, table=True):
    """A signed token that must not be accepted any more although it has not expired; or, by its id, all those of a session."""

    __tablename__ = "revoked_token"

    jti: str = Field(primary_key=True, max_length=36)
    expires_at: datetime


class Setting(ControlTable, table=True):
    """A value that the control plane keeps for itself or an admin changed at run time."""

    __tablename__ = "setting"

    name: str = Field(primary_key=True, max_length=64)
    value: Any = Field(sa_type=sa.JSON)


class SettingChange(ControlTable, table=True):
    """Who changed a setting at run time, and to what; null: back to its default."""

    __tablename__ = "setting_change"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    name: str = Field(max_length=64)
    value: Any = Field(default=None, sa_type=sa.JSON)
    changed_by: str = Field(max_length=256)
    changed_at: datetime = Field(default_factory=utcnow)


class LoginRequest(Wire):
    """``POST /v0/auth/login``."""

    username: LineStr
    password: Password


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
    """A session and the short-lived token that goes with it."""

    session_id: str
    access_token: str
    expires_in_s: int
    user: UserOut


class InferenceTokenRequest(Wire):
    """``POST /v0/auth/inference-token``. ``node_ids``: nodes that the token may pin; null: none."""

    node_ids: list[IdStr] | None = None


class InferenceTokenOut(Out):
    """A token of at most ten minutes for the router."""

    token: str
    expires_at: datetime
    router_url: str


class ApiKeyCreate(Wire):
    """``POST /v0/api-keys``."""

    name: LineStr
    scopes: Annotated[list[Scope], MinLen(1)] = [Scope.INFERENCE]
    models: list[ModelIdStr] | None = None
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    expires_at: AwareDatetime | None = None


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
