"""Engines and sessions. One request or task is one transaction; nobody but this module commits.

SQLite runs in WAL with one writer connection per process and ``BEGIN IMMEDIATE``: a deferred transaction that turns into a
write fails with SQLITE_BUSY at once, whatever ``busy_timeout`` says. Readers have connections of their own.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.errors import Unavailable
from control_api.kit.files import make_database_private

_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000", "foreign_keys=ON", "temp_store=MEMORY")


def is_sqlite(url: str) -> bool:
    """Tell whether a database URL names SQLite."""
    return url.startswith("sqlite")


def sync_engine(url: str, **options: Any) -> sa.Engine:
    """Create an engine that is used without a loop, by migrations and commands."""
    engine = sa.create_engine(url, **options)
    if is_sqlite(url):
        _keep_private(engine)
    return engine


def _keep_private(engine: sa.Engine) -> None:
    """Have the files of a database be private before they are opened."""
    path = engine.url.database
    if path and path != ":memory:":
        event.listen(engine, "do_connect", lambda *_: make_database_private(path))


def _sqlite_engine(url: str, *, writer: bool) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=1 if writer else 4, max_overflow=0, pool_timeout=30)

    _keep_private(engine.sync_engine)

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


@dataclass(frozen=True)
class Store:
    """One database with a reading and a writing side."""

    url: str
    reader: AsyncEngine
    writer: AsyncEngine

    @classmethod
    def open(cls, url: str) -> "Store":
        """Create the engines; connects lazily."""
        if is_sqlite(url):
            return cls(url, _sqlite_engine(url, writer=False), _sqlite_engine(url, writer=True))
        engine = create_async_engine(url, pool_size=10, max_overflow=10, pool_timeout=30, pool_pre_ping=True)
        return cls(url, engine, engine)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Yield a session for reading; it is rolled back at the end."""
        async with AsyncSession(self.reader, expire_on_commit=False) as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """Yield a session in one transaction: committed at the end, rolled back on any error."""
        async with async_sessionmaker(self.writer, class_=AsyncSession, expire_on_commit=False).begin() as session:
            yield session

    async def close(self) -> None:
        """Close all connections."""
        await self.reader.dispose()
        await self.writer.dispose()


@dataclass(frozen=True)
class Database:
    """The control store and the telemetry store of a process."""

    control: Store
    telemetry: Store

    @classmethod
    def open(cls, control_url: str, telemetry_url: str) -> "Database":
        """Create the engines of both stores."""
        return cls(Store.open(control_url), Store.open(telemetry_url))

    async def ping(self) -> None:
        """Raise ``Unavailable`` unless both stores answer."""
        for name, store in (("control", self.control), ("telemetry", self.telemetry)):
            try:
                async with store.read() as session:
                    await session.exec(select(1))
            except (OperationalError, OSError) as error:
                raise Unavailable(f"The {name} store does not answer: {error}", code="store_unavailable") from error

    async def close(self) -> None:
        """Close both stores."""
        await self.control.close()
        await self.telemetry.close()
