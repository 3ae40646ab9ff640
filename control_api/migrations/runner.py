"""Runs alembic for one store. Only the control API migrates; every other process waits until it has."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock

from control_api.errors import StartupError
from control_api.kit.database import sync_engine
from control_api.kit.files import PRIVATE
from control_api.settings import Settings

StoreName = Literal["control", "telemetry"]
HERE = Path(__file__).parent
LOCK_TIMEOUT_S = 120.0
_ADVISORY_LOCK = 0x6D7573746572  # "muster"


@dataclass(frozen=True)
class StoreSchema:
    """One store and the migrations that belong to it."""

    name: StoreName
    url: str

    @property
    def sync_url(self) -> str:
        """The URL for alembic, which is synchronous."""
        return self.url.replace("sqlite+aiosqlite", "sqlite")

    def config(self) -> Config:
        """Return alembic's configuration."""
        config = Config()
        config.set_main_option("script_location", str(HERE / self.name))
        config.set_main_option("file_template", "%%(year)d_%%(month).2d_%%(day).2d_%%(rev)s_%%(slug)s")
        config.set_main_option("version_path_separator", "os")
        config.attributes["store"] = self
        return config

    def current(self) -> str | None:
        """Return the revision that the store is at; None for an empty store."""
        engine = sync_engine(self.sync_url)
        try:
            with engine.connect() as connection:
                options = {"version_table": self.version_table}
                return MigrationContext.configure(connection, opts=options).get_current_revision()
        finally:
            engine.dispose()

    def head(self) -> str | None:
        """Return the revision that this version of Muster needs."""
        return ScriptDirectory.from_config(self.config()).get_current_head()

    @property
    def version_table(self) -> str:
        """Both stores may live in one database, so each has a version table of its own."""
        return f"alembic_version_{self.name}"

    def upgrade(self) -> None:
        """Bring the store to the head, alone: others wait on the lock."""
        with self._alone():
            command.upgrade(self.config(), "head")

    def downgrade(self, revision: str) -> None:
        """Bring the store back to a revision, so that an older version of Muster can use it again."""
        with self._alone():
            command.downgrade(self.config(), revision)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self.sync_url.startswith("sqlite"):
            path = Path(self.sync_url.removeprefix("sqlite:///"))
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(f"{path}.migrating", timeout=LOCK_TIMEOUT_S, mode=PRIVATE):
                yield
            return
        engine = sync_engine(self.sync_url)
        try:
            with engine.connect() as connection, connection.begin():
                connection.execute(sa.text("SET LOCAL lock_timeout = '120s'"))
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
                yield
        finally:
            engine.dispose()


def schemas(settings: Settings) -> list[StoreSchema]:
    """Return both stores of these settings."""
    return [StoreSchema("control", settings.control_url), StoreSchema("telemetry", settings.telemetry_url)]


async def upgrade(settings: Settings) -> None:
    """Migrate both stores. Raises ``StartupError`` if a store is newer than this version of Muster."""
    for schema in schemas(settings):
        try:
            await asyncio.to_thread(schema.upgrade)
        except sa.exc.OperationalError as error:
            raise StartupError(f"The {schema.name} store does not answer: {error.orig}", code="store_unavailable") from error
        except command.util.CommandError as error:
            hint = "It was made by a newer version; run that version, or restore a backup."
            raise StartupError(f"The {schema.name} store cannot be migrated: {error}", code="store_newer", hint=hint) from error


def is_current(settings: Settings) -> bool:
    """Tell whether both stores are at the revision that this version needs."""
    try:
        return all(schema.current() == schema.head() for schema in schemas(settings))
    except sa.exc.OperationalError:
        return False


async def wait_until_current(settings: Settings, timeout_s: float = 120.0) -> None:
    """Wait until the API has migrated. Raises ``StartupError`` after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not await asyncio.to_thread(is_current, settings):
        if time.monotonic() > deadline:
            raise StartupError("The store is not migrated: is the control API running?", code="store_not_migrated")
        await asyncio.sleep(0.3)
