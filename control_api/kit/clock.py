"""Time: aware UTC in Python, and the database's own clock in statements.

Several processes compare times, so whatever decides about liveness uses the clock of the database that they share.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlmodel import UTCDateTime


def utcnow() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


class db_now(ColumnElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """The database's present time, ``offset_s`` seconds later (negative: earlier).

    Unlike ``CURRENT_TIMESTAMP`` it moves within a transaction and has milliseconds on SQLite.
    """

    inherit_cache = True

    def __init__(self, offset_s: int = 0) -> None:
        self.offset_s = int(offset_s)
        self.type = UTCDateTime()

    def _gen_cache_key(self, anon_map: Any, bindparams: Any) -> tuple[Any, ...]:
        return (db_now, self.offset_s)


@compiles(db_now, "sqlite")
def _sqlite(element: db_now, compiler: SQLCompiler, **_: Any) -> str:
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', '{element.offset_s:+d} seconds')"


@compiles(db_now, "postgresql")
def _postgresql(element: db_now, compiler: SQLCompiler, **_: Any) -> str:
    return f"(clock_timestamp() + interval '{element.offset_s:+d} seconds')"
