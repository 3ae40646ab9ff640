"""Files that are nobody else's business: databases, keys, logs. Their modes depend on nobody's umask."""

import contextlib
import os
from pathlib import Path

PRIVATE = 0o600
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
