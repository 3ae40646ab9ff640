"""An artifact on its way: the bytes that are here, and their running sha256."""

import asyncio
import errno
import os
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from node_service.errors import InsufficientDisk, WeightsError

__all__ = ["PartFile"]

_READ_BYTES = 4 * 2**20


class PartFile:
    """A `.part` file that is only appended to, hashed as it grows.

    Disk and hash work is done in threads. What a killed process left behind is hashed again
    on opening, so that the digest always covers what is really on the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = sha256()
        self._file: BinaryIO | None = None
        self.size = 0

    async def open(self) -> None:
        """Open the file and take in the bytes that are already there."""
        await self._in_thread(self._open)

    async def append(self, data: bytes | bytearray) -> None:
        """Write `data` at the end.

        Raises:
            InsufficientDisk: the disk is full.
            WeightsError: the disk refuses for another reason.
        """
        await self._in_thread(self._append, data)

    async def restart(self) -> None:
        """Forget all bytes, for a source that cannot go on where we stopped."""
        await self._in_thread(self._restart)

    async def settle(self) -> None:
        """Bring everything to the disk, before the file is renamed to its place."""
        await self._in_thread(lambda: os.fsync(self._opened.fileno()))

    def digest(self) -> str:
        """Return the sha256 of all bytes so far."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file."""
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
        self._file.seek(0)
        while chunk := self._file.read(_READ_BYTES):
            self._hash.update(chunk)
            self.size += len(chunk)

    def _append(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view:
            written = self._opened.write(view)
            self._hash.update(view[:written])
            self.size += written
            view = view[written:]

    def _restart(self) -> None:
        self._opened.truncate(0)
        self._hash = sha256()
        self.size = 0
