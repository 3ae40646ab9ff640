"""An artifact on its way: the bytes that are here, and their running sha256."""

import asyncio
import errno
import hashlib
import os
import threading
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from node_service.errors import InsufficientDisk, WeightsError

__all__ = ["PartFile", "file_digest"]

_READ_BYTES = 4 * 2**20


class PartFile:
    """A `.part` file that is only appended to, hashed as it grows.

    Disk and hash work is done in threads. What a killed process left behind is hashed again beside
    the download, so that reading goes on at once, and the digest covers what is really on the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = sha256()
        self._hashed = 0
        self._caught_up = True  # then appending hashes; until then, the catching up does
        self._closing = False
        self._lock = threading.Lock()
        self._catching_up: asyncio.Task[None] | None = None
        self._file: BinaryIO | None = None
        self.size = 0
        self.beginnings = 0  # how often it was begun anew

    async def open(self) -> None:
        """Open the file and begin to hash the bytes that are already there."""
        await self._in_thread(self._open)
        if self.size:
            self._caught_up = False
            self._catching_up = asyncio.create_task(self._in_thread(self._catch_up))

    async def append(self, data: bytes | bytearray) -> None:
        """Write `data` at the end.

        Raises:
            InsufficientDisk: the disk is full.
            WeightsError: the disk refuses for another reason.
        """
        await self._in_thread(self._append, data)

    async def restart(self) -> None:
        """Forget all bytes, for a source that cannot go on where we stopped."""
        await self._stop_catching_up()
        await self._in_thread(self._restart)

    async def settle(self) -> None:
        """Bring everything to the disk, before the file is renamed to its place."""
        await self._in_thread(lambda: os.fsync(self._opened.fileno()))

    async def digest(self) -> str:
        """Return the sha256 of all bytes so far; raises WeightsError when they cannot be read."""
        if self._catching_up is not None:
            await self._catching_up
        return self._hash.hexdigest()

    async def close(self) -> None:
        """Close the file."""
        await self._stop_catching_up()
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise RuntimeError("the part file is not open")
        return self._file

    async def _in_thread(self, work, *arguments) -> None:  # type: ignore[no-untyped-def]
        try:
            await asyncio.to_thread(work, *arguments)
        except OSError as error:
            text = f"{self._path}: {error.strerror} after {self.size} bytes"
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise (InsufficientDisk(text) if full else WeightsError(text)) from error

    def _open(self) -> None:
        # Unbuffered: every byte that was counted survives a kill of this process.
        self._file = self._path.open("ab+", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size

    def _append(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view:
            written = self._opened.write(view)
            with self._lock:
                self.size += written
                hashes = self._caught_up
            if hashes:
                self._hash.update(view[:written])
            view = view[written:]

    def _catch_up(self) -> None:
        """Hash from the file until all of it is hashed; from then on appending does it."""
        while not self._closing:
            with self._lock:
                ahead = self.size - self._hashed
                if not ahead:
                    self._caught_up = True
                    return
            chunk = os.pread(self._opened.fileno(), min(_READ_BYTES, ahead), self._hashed)
            if not chunk:
                raise OSError(errno.EIO, "the file became shorter")
            self._hash.update(chunk)
            self._hashed += len(chunk)

    async def _stop_catching_up(self) -> None:
        task, self._catching_up = self._catching_up, None
        if task is not None:
            self._closing = True
            await asyncio.gather(task, return_exceptions=True)
            self._closing = False

    def _restart(self) -> None:
        self._opened.truncate(0)
        self._hash, self._hashed, self._caught_up = sha256(), 0, True
        self.size = 0
        self.beginnings += 1


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's content; raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
