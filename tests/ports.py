"""Ports for processes that listen a moment later."""

import functools
import itertools
import socket

from demo.processes import is_free

# Below what the system gives to connections and to listeners that do not care (net.ipv4.ip_local_port_range): it could give a
# port away again before its process listens.
_FIRST, _LAST = 10_240, 32_700
_BLOCK = 100


class _Block:
    """Ports of this process alone, as long as it lives, among all suites that run on this machine."""

    def __init__(self) -> None:
        self._name, first = _taken()
        self._ports = itertools.cycle(range(first, first + _BLOCK))

    def free_port(self) -> int:
        """Return the next one that nobody listens on."""
        for port in itertools.islice(self._ports, _BLOCK):
            if is_free(port):
                return port
        raise OSError("no free port")


def free_port() -> int:
    """Return a port that nobody listens on; no other suite is given it, and this process again only after a hundred others."""
    return _block().free_port()


@functools.cache
def _block() -> _Block:
    return _Block()


def _taken() -> tuple[socket.socket, int]:
    """Take a block by a name that only one process can have, and that is gone with it: an abstract address, see unix(7)."""
    for first in range(_FIRST, _LAST - _BLOCK, _BLOCK):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0muster-test-ports-{first}")
        except OSError:
            name.close()
        else:
            return name, first
    raise OSError("no free block of ports")
