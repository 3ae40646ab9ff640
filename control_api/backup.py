"""A dump of the store on PostgreSQL, and the way back. PostgreSQL's own programs do the work.

What a backup brings back is of another time than the nodes and the hosts that it speaks of. So nothing in it acts by itself:
deletions that nodes were still to make are dropped, and jobs that waited or ran are lost instead of run.
"""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlmodel import col, delete, update

from control_api.automation.models import HostLock, Job
from control_api.automation.states import JobStatus
from control_api.distribution.models import Removal
from control_api.errors import BadInput, StartupError
from control_api.kit import revision
from control_api.kit.clock import utcnow
from control_api.kit.database import Database, sync_engine
from control_api.kit.files import open_private
from control_api.migrations import runner
from control_api.settings import Settings

TIMEOUT_S = 3600
_LIBPQ = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
_EMPTY_IT = """
DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE format('DROP TABLE IF EXISTS public.%I CASCADE', name);
  END LOOP;
END $$
"""


def dump(settings: Settings, target: Path) -> None:
    """Write a consistent dump, readable by this user only, whole or not at all.

    Raises ``BadInput`` on SQLite, ``StartupError`` when PostgreSQL's programs fail.
    """
    environment = _environment(settings)
    part = target.with_name(f".{target.name}.part")
    descriptor = open_private(part, os.O_WRONLY | os.O_TRUNC)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _run(["pg_dump", "--format=custom", "--no-owner", "--no-privileges"], environment, stdout=file.fileno())
            os.fsync(file.fileno())
        check(settings, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def check(settings: Settings, source: Path) -> None:
    """Raise ``BadInput`` unless a file is a whole dump of a store that this version can use or migrate."""
    schemas = runner.schemas(settings)
    tables = [f"--table={schema.version_table}" for schema in schemas]
    try:
        _run(["pg_restore", "--file=/dev/null", str(source)], _outside())
        copied = _run(["pg_restore", "--data-only", "--file=-", *tables, str(source)], _outside())
    except StartupError as error:
        raise BadInput(f"{source.name} is no whole dump: {error.message}", code="bad_dump") from error
    lines = copied.decode().splitlines()
    for schema in schemas:
        heads = [number for number, line in enumerate(lines) if line.startswith(f"COPY public.{schema.version_table} ")]
        if not heads:
            raise BadInput(f"{source.name} is no dump of Muster: it has no {schema.version_table}.", code="bad_dump")
        _check_known(schema, lines[heads[0] + 1], source)


def _check_known(schema: runner.StoreSchema, at: str, source: Path) -> None:
    try:
        ScriptDirectory.from_config(schema.config()).get_revision(at)
    except CommandError as error:
        hint = "It was made by a newer version: install that version first."
        raise BadInput(f"{source.name}: the {schema.name} store is at {at}.", code="store_newer", hint=hint) from error


def load(settings: Settings, source: Path) -> None:
    """Replace all tables by those of a dump, in one transaction, migrate them, and let nothing in them act by itself.

    Stop every process of Muster first. Raises ``BadInput`` and leaves the store as it is if the dump cannot be used.
    """
    environment = _environment(settings)
    check(settings, source)
    # By way of a file: a pipe that breaks looks to psql like the end, and half a dump would be committed.
    with tempfile.NamedTemporaryFile(dir=source.parent, prefix=".load-") as script:
        _run(["pg_restore", "--no-owner", "--no-privileges", f"--file={script.name}", str(source)], environment)
        command = ["psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction"]
        _run([*command, f"--command={_EMPTY_IT}", f"--file={script.name}"], environment)
    asyncio.run(_settle(settings))


async def _settle(settings: Settings) -> None:
    await runner.upgrade(settings)
    database = Database.open(settings.control_url, settings.telemetry_url)
    unfinished = [status for status in JobStatus if not status.is_final]
    lost = {"status": JobStatus.LOST, "reason": "It had not ended when the backup was made.", "finished_at": utcnow()}
    try:
        async with database.control.write() as session:
            await session.exec(delete(Removal))
            await session.exec(delete(HostLock))
            await session.exec(update(Job).where(col(Job.status).in_(unfinished)).values(**lost))
            await revision.bump(session, revision.ROUTES)
    finally:
        await database.close()


def holds(settings: Settings) -> dict[str, int]:
    """Return how many hosts, nodes, models, users and jobs there are: all 0 in a new installation."""
    engine = sync_engine(runner.schemas(settings)[0].sync_url)
    try:
        with engine.connect() as connection:
            present = set(sa.inspect(connection).get_table_names())
            names = [name for name in ("host", "node", "model", "user", "job") if name in present]
            return {name: connection.scalar(sa.text(f'SELECT count(*) FROM "{name}"')) or 0 for name in names}
    finally:
        engine.dispose()


def _environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which PostgreSQL's programs find the database; a password is in no command line."""
    if not settings.database_url:
        raise BadInput("Dumps are for PostgreSQL.", hint="On SQLite stop Muster and copy the state directory.")
    url = sa.make_url(settings.database_url)
    given = {"host": url.host, "port": url.port, "user": url.username, "password": url.password, "dbname": url.database}
    values = {**given, **{name: value for name, value in url.query.items() if name in _LIBPQ}}
    return {**_outside(), **{_LIBPQ[name]: str(value) for name, value in values.items() if value}}


def _outside() -> dict[str, str]:
    """Return our environment without what is for Muster alone."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(("MUSTER_", "HF_"))}


def _run(command: Sequence[str], environment: Mapping[str, str], *, stdout: int = subprocess.PIPE) -> bytes:
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise StartupError(
            f"{command[0]} is not installed.", code="no_postgresql", hint="Install postgresql-client."
        ) from error
    if done.returncode:
        raise StartupError(f"{command[0]}: {done.stderr.decode(errors='replace').strip()}", code="postgresql_failed")
    return done.stdout or b""
