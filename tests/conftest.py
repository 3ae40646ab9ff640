"""Fixtures for all tests."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_api.migrations import runner
from tests.postgres import _database_names, postgres_server, postgres_url
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


@pytest.fixture
async def api(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Api]:
    """A control API on SQLite, or where a test asks for it on PostgreSQL."""
    if getattr(request, "param", "") == "postgresql":
        database = on_postgres(request.getfixturevalue("postgres_url"))
    else:
        database = {}
        shutil.copytree(request.getfixturevalue("migrated_store"), tmp_path / "state")
    async with running_api(settings_for(tmp_path, **database)) as running:
        yield running
