"""A real PostgreSQL for tests, started by hand on a Unix socket in a directory of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

TIMEOUT_S = 60


@dataclass(frozen=True)
class PostgresServer:
    """A running server."""

    binaries: Path
    directory: Path
    user: str | None

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as the user that owns the server."""
        command = [str(self.binaries / program), *arguments]
        done = subprocess.run(
            command, user=self.user, cwd=self.directory, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, f"{command} failed: {done.stdout}{done.stderr}"

    def create(self, database: str, template: str = "template1") -> str:
        """Make a database as another one is, and return its URL."""
        self.run("createdb", "-h", str(self.directory), "-U", "postgres", "-T", template, database)
        return self.url(database)

    def url(self, database: str) -> str:
        """Return the URL of a database, as settings take it."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.directory}"


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _server_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server; skips where its programs are missing."""
    if not (binaries := _binaries()):
        pytest.skip("PostgreSQL is not installed")
    directory = Path(tempfile.mkdtemp(prefix="muster-pg-"))
    server = PostgresServer(binaries, directory, _server_user())
    if server.user:
        shutil.chown(directory, server.user)
    data = str(directory / "data")
    options = f"-c listen_addresses='' -c unix_socket_directories={directory} -c fsync=off -c max_connections=200"
    try:
        server.run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        server.run("pg_ctl", "-D", data, "-l", str(directory / "log"), "-o", options, "-w", "start")
        yield server
    finally:
        if (directory / "data" / "postmaster.pid").exists():
            server.run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def _database_names() -> Iterator[int]:
    return count()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, _database_names: Iterator[int]) -> str:
    """The URL of a new, empty database."""
    return postgres_server.create(f"muster_{next(_database_names)}")
