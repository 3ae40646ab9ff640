"""What would keep the service from working, found before it is started."""

import importlib.util
import os
import shutil
from pathlib import Path

from node_service.engine.definitions import BUILT_IN, CommandDefinition, EngineDefinition
from node_service.hardware import read_gpus
from node_service.settings import Settings

__all__ = ["find_problems", "gpu_notes"]


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
    library = BUILT_IN.get(settings.engine)
    if library is not None and importlib.util.find_spec(library) is None:
        problems.append(f"engine: the library {library} is not installed")
    for name, definition in settings.engines.items():
        problems += [f"engines.{name}.{problem}" for problem in _engine_problems(definition)]
    return problems


def _engine_problems(definition: EngineDefinition) -> list[str]:
    """Return what keeps a defined engine from working; a server that is away now is no problem, it may come."""
    if isinstance(definition, CommandDefinition):
        program = definition.argv[0]
        return [] if shutil.which(program) else [f"argv: {program} is not a program of this machine"]
    path = definition.api_key_file
    return [f"api_key_file: cannot read {path}"] if path is not None and not os.access(path, os.R_OK) else []


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
