"""Clients that cannot live in the suite's own environment, each in one of its own: kept in the user's cache by version."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CLIENTS = Path(__file__).parent / "clients"
INSTALL_LIMIT_S = 300


class NotHere(Exception):
    """A client cannot be run on this machine; says why."""


def own() -> list[str]:
    """Return how to run Python with what the suite itself is tested with."""
    return [sys.executable]


def python(name: str) -> list[str]:
    """Return how to run Python with what ``clients/<name>.txt`` locks."""
    locked = CLIENTS / f"{name}.txt"
    folder = _kept(f"{name}-{sys.version_info.major}.{sys.version_info.minor}", locked)
    if not (folder / "bin/python").exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            new = Path(made) / "new"
            _run(["uv", "venv", "--quiet", "--relocatable", "--python", sys.executable, str(new)])
            environment = ["--python", str(new / "bin/python")]
            _run(["uv", "pip", "install", "--quiet", "--require-hashes", *environment, "-r", str(locked)])
            _put(new, folder)
    return [str(folder / "bin/python")]


def node(name: str, script: str) -> list[str]:
    """Return how to run a script of ``clients/<name>`` by Node.js 20 or newer, with what is locked there."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotHere("Node.js and npm are not installed")
    version = _run(["node", "--version"]).strip()
    if int(version.removeprefix("v").partition(".")[0]) < 20:
        raise NotHere(f"Node.js is {version}; 20 is the oldest that the client supports")
    source = CLIENTS / name
    folder = _kept(name, *sorted(source.iterdir()))
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            new = Path(made) / "new"
            shutil.copytree(source, new)
            _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], new)
            _put(new, folder)
    return ["node", str(folder / script)]


def curl() -> list[str]:
    """Return how to run the driver of curl."""
    if shutil.which("curl") is None:
        raise NotHere("curl is not installed")
    return [sys.executable]


def _kept(name: str, *locked: Path) -> Path:
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in locked)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muster/clients"
    cache.mkdir(parents=True, exist_ok=True)
    return cache / f"{name}-{digest}"


def _put(new: Path, folder: Path) -> None:
    """Move what is complete to its place; another run may have been first."""
    try:
        new.rename(folder)
    except OSError:
        if not folder.exists():
            raise


def _run(command: list[str], folder: Path | None = None) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path},
            check=True,
            capture_output=True,
            text=True,
            timeout=INSTALL_LIMIT_S,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise NotHere(f"{' '.join(command[:3])} failed: {str(error.stderr or error)[-300:]}") from error
    return done.stdout
