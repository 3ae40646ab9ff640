"""A local hub with small models, and a control API that is configured for it."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.catalogue.models import SMOLLM
from tests.hub import Hub
from tests.running import Api, running_api, settings_for
from tests.tiny_gguf import write_tiny_gguf


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with the files that the catalogue names for the small model, a split model and a gated one."""
    files = {
        f"{SMOLLM.repo}/{SMOLLM.recommended_filename}": write_tiny_gguf(tmp_path / "tiny.gguf").read_bytes(),
        f"{SMOLLM.repo}/README.md": b"read me",
        "lab/split-GGUF/split-Q8_0-00001-of-00002.gguf": b"GGUF" + b"first" * 100,
        "lab/split-GGUF/split-Q8_0-00002-of-00002.gguf": b"GGUF" + b"second" * 100,
        "lab/broken-GGUF/broken-00001-of-00002.gguf": b"GGUF alone",
        "lab/many-GGUF/many-Q4_0.gguf": b"GGUF four",
        "lab/many-GGUF/many-Q8_0.gguf": b"GGUF eight",
        "lab/empty-GGUF/empty.gguf": b"",
        "lab/none/model.safetensors": b"no gguf",
        "lab/none/README.md": b"read me",
        "lab/renamed-GGUF/renamed.gguf": b"PK\x03\x04weights",
        "lab/gated-model/gated.gguf": b"GGUF gated",
    }
    for name, content in files.items():
        path = tmp_path / "hub" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    running = Hub(tmp_path / "hub").start()
    yield running
    running.stop()


@pytest.fixture
async def api(tmp_path: Path, hub: Hub, migrated_store: Path, anyio_backend: str) -> AsyncIterator[Api]:
    """A control API on SQLite that asks the local hub."""
    shutil.copytree(migrated_store, tmp_path / "state")
    async with running_api(settings_for(tmp_path, hub_endpoint=hub.url, hub_timeout_s=10), migrated=True) as running:
        yield running
