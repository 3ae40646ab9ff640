"""All queries of the request history."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import defer
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.kit.paging import decode_row_cursor, encode_cursor
from control_api.telemetry.models import RequestHistory

PRUNED_AT_ONCE = 5000
ROWS_PER_STATEMENT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFilter:
    """Which requests are wanted. ``failed``: those that ended by an error, or by the client's leaving."""

    model: str | None = None
    node_id: str | None = None
    caller_id: str | None = None
    request_id: str | None = None
    failed: bool | None = None
    since: datetime | None = None


async def add_requests(session: AsyncSession, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert finished requests.

    Many rows go into one statement: SQLite's thread gives up the interpreter's lock once per statement, and getting it back
    costs a busy router more than the insertion.
    """
    connection = await session.connection()
    dialect = connection.dialect
    mark = "?" if dialect.paramstyle == "qmark" else "%s"
    one = f"({', '.join([mark] * len(columns))})"
    table = RequestHistory.__table__  # type: ignore[attr-defined]
    at, convert = columns.index("at"), table.c.at.type.dialect_impl(dialect).bind_processor(dialect) or (lambda value: value)
    for begin in range(0, len(rows), ROWS_PER_STATEMENT):
        some = rows[begin : begin + ROWS_PER_STATEMENT]
        values = [value for row in some for value in (*row[:at], convert(row[at]), *row[at + 1 :])]
        statement = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {', '.join([one] * len(some))}"
        await connection.exec_driver_sql(statement, tuple(values))


async def page_requests(
    session: AsyncSession, wanted: RequestFilter, *, cursor: str | None, limit: int
) -> tuple[list[RequestHistory], str | None]:
    """Return finished requests without their content, newest first."""
    contents = (RequestHistory.request_content, RequestHistory.response_content)
    statement = select(RequestHistory).options(*(defer(column, raiseload=True) for column in contents))  # type: ignore[arg-type]
    for name in ("model", "node_id", "caller_id", "request_id"):
        if (value := getattr(wanted, name)) is not None:
            statement = statement.where(col(getattr(RequestHistory, name)) == value)
    if wanted.since is not None:
        statement = statement.where(col(RequestHistory.at) >= wanted.since)
    if wanted.failed is not None:
        failed = sa.or_(col(RequestHistory.status) >= 400, col(RequestHistory.error_code).is_not(None))
        statement = statement.where(failed if wanted.failed else sa.not_(failed))
    if cursor:
        statement = statement.where(col(RequestHistory.id) < decode_row_cursor(cursor))
    rows = list((await session.exec(statement.order_by(col(RequestHistory.id).desc()).limit(limit + 1))).all())
    return (rows, None) if len(rows) <= limit else (rows[:limit], encode_cursor(str(rows[limit - 1].id)))


async def get_request(session: AsyncSession, id_: int) -> RequestHistory | None:
    """Return one finished request with its content."""
    return await session.get(RequestHistory, id_)


async def prune_requests(session: AsyncSession, before: datetime) -> int:
    """Delete some requests that are older; return how many, 0 when there are no more."""
    old = select(RequestHistory.id).where(col(RequestHistory.at) < before).limit(PRUNED_AT_ONCE)
    connection = await session.connection()
    done = await connection.execute(sa.delete(RequestHistory).where(col(RequestHistory.id).in_(old)))
    return done.rowcount
