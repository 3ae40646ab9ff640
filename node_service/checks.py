"""What would keep the service from working, found before it is started."""

import importlib.util
import os
from pathlib import Path

from node_service.hardware import read_gpus
from node_service.settings import Settings

__all__ = ["find_problems", "gpu_notes"]

_LIBRARIES = {"xllamacpp": "xllamacpp", "llama-cpp-python": "llama_cpp"}


def find_problems(settings: Settings) -> list[str]:
    """Return one line for each problem; nothing is changed on the machine."""
    problems = [
        f"{key}: cannot write to {path}"
        for key, path in (("store_dir", settings.store_dir), ("state_dir", settings.state_dir))
        if not _writable(path)
    ]
    for key in ("ca_bundle", "hub_token_file"):
        path = getattr(settings, key)
        if path is not None and not os.access(path, os.R_OK):
            problems.append(f"{key}: cannot read {path}")
    if importlib.util.find_spec(_LIBRARIES[settings.engine]) is None:
        problems.append(f"engine: the library {_LIBRARIES[settings.engine]} is not installed")
    return problems


def gpu_notes(settings: Settings) -> list[str]:
    """Return what is to be known about the GPUs.

    Never a problem: a configuration is checked before the driver it waits for is loaded.
    """
    reading = read_gpus()
    notes = [f"{gpu.name}, {gpu.memory_total / 1e9:.1f} GB, driver {gpu.driver}" for gpu in reading.gpus]
    if settings.require_gpu or reading.gpus:
        notes += reading.errors
    return notes


def _writable(path: Path) -> bool:
    existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
