"""Ports for processes that listen a moment later."""

import fcntl
import functools
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from demo.processes import is_free

# Below what the system gives to connections and to listeners that do not care (net.ipv4.ip_local_port_range): it could give a
# port away again before its process listens.
_FIRST, _LAST = 10_240, 32_700
_BLOCK = 100


class _Block:
    """Ports of this process alone, as long as it lives, among all suites that run on this machine."""

    def __init__(self) -> None:
        self._lock, first = _taken()
        self._ports = itertools.cycle(range(first, first + _BLOCK))

    def free_port(self) -> int:
        """Return the next one that nobody listens on."""
        for port in itertools.islice(self._ports, _BLOCK):
            if is_free(port):
                return port
        raise OSError("no free port")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, and that nobody else is given."""
    return _block().free_port()


@functools.cache
def _block() -> _Block:
    return _Block()


def _taken() -> tuple[IO[bytes], int]:
    for first, file in _lock_files():
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        else:
            return file, first
    raise OSError("no free block of ports")


def _lock_files() -> Iterator[tuple[int, IO[bytes]]]:
    directory = Path(tempfile.gettempdir()) / "muster-test-ports"
    directory.mkdir(exist_ok=True)
    for first in range(_FIRST, _LAST - _BLOCK, _BLOCK):
        yield first, (directory / str(first)).open("ab")
