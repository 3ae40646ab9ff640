"""A checkout in small: the stand-in for the node service with its locks, from which a wheelhouse is built in seconds."""

import shutil
from pathlib import Path

from tests.ansible.runs import ROOT

STANDIN = Path(__file__).with_name("standin") / "node_service"


def make_project(directory: Path, locked: str = "") -> Path:
    """Make the project in `directory`; `locked` is the lock of what the node needs."""
    shutil.copytree(STANDIN, directory / "node_service")
    requirements = directory / "requirements"
    requirements.mkdir()
    (requirements / "node.txt").write_text(locked)
    for name in ("control.txt", "native.txt", "build.txt"):
        shutil.copy(ROOT / "requirements" / name, requirements)
    return directory
