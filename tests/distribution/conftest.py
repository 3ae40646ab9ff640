"""A control API with a local hub; the policy that places models by itself is off unless a test asks for another."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.hub import Hub
from tests.running import Api, running_api, settings_for

CONTENT = {name: b"GGUF".ljust(size, fill) for name, size, fill in [("a", 1000, b"a"), ("b", 2000, b"b"), ("c", 3000, b"c")]}
CONTENT["twin"] = CONTENT["a"]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with one small model in each of a few repositories; ``twin`` holds the same bytes as ``a``."""
    for name, content in CONTENT.items():
        path = tmp_path / "hub/lab" / name / f"{name}.gguf"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    running = Hub(tmp_path / "hub").start()
    yield running
    running.stop()


@pytest.fixture
async def api(
    tmp_path: Path, hub: Hub, migrated_store: Path, request: pytest.FixtureRequest, anyio_backend: str
) -> AsyncIterator[Api]:
    """A control API on SQLite; parametrise it indirectly with settings."""
    shutil.copytree(migrated_store, tmp_path / "state")
    values = {"auto_distribution": "off", **getattr(request, "param", {})}
    async with running_api(settings_for(tmp_path, hub_endpoint=hub.url, **values), migrated=True) as running:
        yield running
