"""Small JSON documents that survive a restart: written whole or not at all, private to us."""

import json
import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any


class StateDir:
    """A directory of JSON documents, mode 0700, files 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self) -> None:
        """Make the directory; raises OSError when that is not possible."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.chmod(0o700)
        take_rights(self._path.iterdir(), 0o077)

    def read(self, name: str) -> Any | None:
        """Return a document, or None if it is not there; raises ValueError if it is damaged."""
        try:
            return json.loads((self._path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def write(self, name: str, document: Any) -> None:
        """Replace a document; when this returns it is on the disk."""
        # mkstemp makes the file 0600, so the content is never readable by others.
        handle, temporary_name = tempfile.mkstemp(dir=self._path, prefix=f".{name}.")
        temporary = Path(temporary_name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(document, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._sync_directory()

    def _sync_directory(self) -> None:
        directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def take_rights(paths: Iterable[Path], rights: int) -> None:
    """Take rights to files and directories away that others have; links stay, and what is not ours."""
    for path in paths:
        with suppress(OSError):
            mode = path.lstat().st_mode
            if mode & rights and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                path.chmod(stat.S_IMODE(mode) & ~rights)
