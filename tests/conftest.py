"""Fixtures for all tests."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from control_api.migrations import runner
from control_api.settings import Settings
from tests.postgres import PostgresServer, _database_names, postgres_server, postgres_url
from tests.running import Api, on_postgres, running_api, settings_for

# These take minutes, so they begin first; the many short ones fill the time of whoever is done.
LONG = (
    "hosts",
    "molecule",
    "ansible/test_process_manager.py",
    "automation/test_ssh.py",
    "conformance",
    "node_service/test_kills.py",
)

__all__ = ["_database_names", "postgres_server", "postgres_url"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the long files begin first."""
    here = Path(__file__).parent
    items.sort(key=lambda item: not str(item.path.relative_to(here)).startswith(LONG))


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which is what every process of ours runs on."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the environment of whoever runs the tests out of them."""
    for name in [name for name in os.environ if name.startswith("MUSTER_") and name != "MUSTER_REQUIRE_HOSTS"]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def migrated_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store on SQLite, migrated once: copying it is faster than migrating one for each test."""
    settings = settings_for(tmp_path_factory.mktemp("migrated"))
    for schema in runner.schemas(settings):
        schema.upgrade()
    return settings.state_dir


@pytest.fixture(scope="session")
def migrated_database(postgres_server: PostgresServer) -> str:
    """The name of an empty database on PostgreSQL, migrated once, to be the template of others."""
    url = postgres_server.create("migrated")
    for schema in runner.schemas(Settings(**on_postgres(url))):
        schema.upgrade()
    return "migrated"


@pytest.fixture
def migrated_url(postgres_server: PostgresServer, migrated_database: str, _database_names: Iterator[int]) -> str:
    """The URL of a new database in which there are all tables, empty."""
    return postgres_server.create(f"muster_{next(_database_names)}", migrated_database)


def store(request: pytest.FixtureRequest, folder: Path, kind: str) -> dict[str, Any]:
    """Return the settings of a new store that is migrated: on SQLite in the state directory of a folder, or on PostgreSQL."""
    if kind == "postgresql":
        return on_postgres(request.getfixturevalue("migrated_url"))
    shutil.copytree(request.getfixturevalue("migrated_store"), folder / "state")
    return {}


@pytest.fixture
async def api(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Api]:
    """A control API on SQLite, or where a test asks for it on PostgreSQL."""
    database = store(request, tmp_path, getattr(request, "param", "sqlite"))
    async with running_api(settings_for(tmp_path, **database), migrated=True) as running:
        yield running
