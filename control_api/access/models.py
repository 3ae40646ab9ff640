"""Tables of users, sessions, API keys, signing keys and settings."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field

from control_api.kit.clock import utcnow
from control_api.kit.ids import new_id
from control_api.kit.tables import ControlTable


class User(ControlTable, table=True):
    """A person who logs in to the dashboard."""

    __tablename__ = "user"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    name: str = Field(unique=True, max_length=64)
    password_hash: str
    scopes: list[str] = Field(sa_type=sa.JSON)
    created_at: datetime = Field(default_factory=utcnow)


class UserSession(ControlTable, table=True):
    """A browser's session: an opaque id, stored hashed, with sliding expiry. ``token_id``: how tokens name it."""

    __tablename__ = "user_session"

    id_hash: str = Field(primary_key=True, max_length=64)
    token_id: str = Field(default_factory=new_id, unique=True, max_length=36)
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


class Setting(ControlTable, table=True):
    """A value that the control plane keeps for itself or an admin changed at run time."""

    __tablename__ = "setting"

    name: str = Field(primary_key=True, max_length=64)
    value: Any = Field(sa_type=sa.JSON)


class KeyCheck(ControlTable, table=True):
    """A value that only the key at rest of this name can read. Every process that holds the key looks whether it can."""

    __tablename__ = "key_check"

    name: str = Field(primary_key=True, max_length=64)
    value: str = Field(max_length=512)


class SettingChange(ControlTable, table=True):
    """Who changed a setting at run time, and to what; null: back to its default."""

    __tablename__ = "setting_change"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    name: str = Field(max_length=64)
    value: Any = Field(default=None, sa_type=sa.JSON)
    changed_by: str = Field(max_length=256)
    changed_at: datetime = Field(default_factory=utcnow)
