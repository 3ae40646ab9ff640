"""Table of cloud providers."""

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field

from control_api.kit.clock import utcnow
from control_api.kit.tables import ControlTable


class Provider(ControlTable, table=True):
    """A provider with a key, which is encrypted for routers to read."""

    __tablename__ = "provider"

    name: str = Field(primary_key=True, max_length=16)
    base_url: str = Field(max_length=512)
    key_encrypted: str
    models: list[str] = Field(sa_type=sa.JSON)
    updated_at: datetime = Field(default_factory=utcnow)
