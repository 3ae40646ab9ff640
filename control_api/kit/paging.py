"""Keyset paging: a page is what follows the last key of the page before, so rows added meanwhile do not shift it."""

import base64
import binascii
from typing import Annotated, Any

from pydantic import Field
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from control_api.errors import BadInput

# Parameters of queries. Not FastAPI's own: supervisors import this module and nothing of the web.
Limit = Annotated[int, Field(ge=1, le=500, description="Rows of a page.")]
# What fits into 63 bits, as the databases' integers do.
_MAX_ROW_DIGITS = 18
Cursor = Annotated[str | None, Field(max_length=512, description="`next_cursor` of the page before.")]


def encode_cursor(key: str) -> str:
    """Return a key as an opaque cursor."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def decode_cursor(cursor: str) -> str:
    """Return the key in a cursor. Raises ``BadInput`` if it is not one of ours."""
    try:
        key = base64.urlsafe_b64decode(cursor.encode()).decode()
    except (binascii.Error, UnicodeError) as error:
        raise _not_ours() from error
    if not key.isprintable():
        raise _not_ours()
    return key


def decode_row_cursor(cursor: str) -> int:
    """Return the row id in a cursor. Raises ``BadInput`` if there is none."""
    key = decode_cursor(cursor)
    if not key.isascii() or not key.isdigit() or len(key) > _MAX_ROW_DIGITS:
        raise _not_ours()
    return int(key)


def _not_ours() -> BadInput:
    return BadInput("cursor is not one that this API gave out.", code="bad_cursor")


async def page[Row](
    session: AsyncSession,
    statement: SelectOfScalar[Row],
    key: Any,
    *,
    cursor: str | None,
    limit: int,
    descending: bool = False,
) -> tuple[list[Row], str | None]:
    """Run a statement for one page.

    Parameters
    ----------
    key: the unique text column that orders the rows, e.g. ``Host.name``.
    cursor: ``next_cursor`` of the page before, or None for the first.
    limit: rows of a page.
    """
    column = col(key)
    if cursor:
        after = decode_cursor(cursor)
        statement = statement.where(column < after if descending else column > after)
    statement = statement.order_by(column.desc() if descending else column.asc()).limit(limit + 1)
    rows = list((await session.exec(statement)).all())
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], encode_cursor(str(getattr(rows[limit - 1], key.key)))
