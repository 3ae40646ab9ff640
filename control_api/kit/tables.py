"""Bases of all tables. Two stores, two sets of metadata: history must never block heartbeats.

``ControlTable`` lives in ``control.db``, ``TelemetryTable`` in ``telemetry.db``; on PostgreSQL both in one database.
No foreign key crosses the two.
"""

from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import registry
from sqlmodel import SQLModel

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class ControlTable(SQLModel, registry=registry(metadata=sa.MetaData(naming_convention=_NAMES))):
    """Base of the tables of the control store."""


class TelemetryTable(SQLModel, registry=registry(metadata=sa.MetaData(naming_convention=_NAMES))):
    """Base of the tables of the telemetry store."""


def enum_type(values: type[StrEnum]) -> Any:
    """Return a column type that stores the enum's values as text, checked in Python on the way in and out."""
    return sa.Enum(values, native_enum=False, length=32, values_callable=lambda e: [m.value for m in e])
