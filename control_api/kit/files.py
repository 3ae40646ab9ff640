"""Files that are nobody else's business: databases, keys, logs. Their modes depend on nobody's umask."""

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

PRIVATE = 0o600
_OTHERS, _OTHERS_WRITE = 0o077, 0o022
_DATABASE_PARTS = ("", "-wal", "-shm", "-journal")


def open_private(path: str | Path, flags: int) -> int:
    """Open a file, made if need be, that only its owner may read and write; an ``opener`` for ``open``."""
    descriptor = os.open(path, flags | os.O_CREAT, PRIVATE)
    with contextlib.suppress(PermissionError):
        # One that was there before may be open to others; if it is not ours, that is its owner's matter.
        os.fchmod(descriptor, PRIVATE)
    return descriptor


def make_database_private(path: str) -> None:
    """Make the file of an SQLite database, and take the rights of others to it and to what belongs to it away.

    SQLite gives its other files the mode of the database. Where that cannot be, SQLite itself will say what is wrong.
    """
    with contextlib.suppress(OSError):
        # Never one that is there: to close it would end the locks that this process has on it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE))
    for part in _DATABASE_PARTS:
        with contextlib.suppress(OSError):
            Path(path + part).chmod(PRIVATE)


def close_to_others(folder: Path, names: Iterable[str]) -> None:
    """Take the rights of others away from what in a folder has one of these names, which may be patterns.

    In the folder itself others can make nothing any more; that they can see it may be meant. Links stay, and what is not ours.
    """
    _take(folder, _OTHERS_WRITE)
    for name in names:
        for path in folder.glob(name):
            _take(path, _OTHERS)


def _take(path: Path, rights: int) -> None:
    with contextlib.suppress(OSError):
        mode = path.lstat().st_mode
        if stat.S_IMODE(mode) & rights and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            # By its name: to open and close a database would end the locks that this process has on it.
            path.chmod(stat.S_IMODE(mode) & ~rights)
