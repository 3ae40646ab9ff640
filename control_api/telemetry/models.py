"""Tables of what routers tell."""

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field

from control_api.kit.tables import TelemetryTable


class RequestHistory(TelemetryTable, table=True):
    """One finished request to the router; ``id`` grows with time. Contents are compressed by zlib, and null unless kept."""

    __tablename__ = "request_history"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True, sa_type=sa.BigInteger().with_variant(sa.Integer, "sqlite"))
    request_id: str = Field(index=True, max_length=128)
    at: datetime = Field(index=True, description="When its answer was over.")
    caller_id: str = Field(max_length=256)
    path: str = Field(max_length=64)
    model: str = Field(max_length=256)
    stream: bool
    node_id: str | None = Field(default=None, max_length=36)
    status: int
    error_code: str | None = Field(default=None, max_length=64)
    attempts: int
    queue_s: float
    first_byte_s: float | None = None
    duration_s: float
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    request_content: bytes | None = Field(default=None, sa_type=sa.LargeBinary)
    response_content: bytes | None = Field(default=None, sa_type=sa.LargeBinary)


class RouterBreaker(TelemetryTable, table=True):
    """A node that a router has taken out of rotation, as the router said last."""

    __tablename__ = "router_breaker"

    router_id: str = Field(primary_key=True, max_length=36)
    node_id: str = Field(primary_key=True, max_length=36)
    state: str = Field(max_length=16)
    cause: str = Field(max_length=32)
    since: datetime
    reported_at: datetime
