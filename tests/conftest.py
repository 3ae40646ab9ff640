"""Fixtures for all tests."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.running import Api, running_api, settings_for


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which is what every process of ours runs on."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the environment of whoever runs the tests out of them."""
    for name in [name for name in os.environ if name.startswith("MUSTER_") and name != "MUSTER_REQUIRE_HOSTS"]:
        monkeypatch.delenv(name)


@pytest.fixture
async def api(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Api]:
    """A control API on SQLite."""
    async with running_api(settings_for(tmp_path)) as running:
        yield running
