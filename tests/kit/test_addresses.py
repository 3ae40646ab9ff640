"""Which addresses are this machine's own, however they are written."""

import socket

import pytest

from control_api.kit.addresses import own_of

pytestmark = pytest.mark.anyio

LOOPBACK = [
    "127.0.0.1",
    "127.255.1.2",
    "127.1",
    "0x7f.1",
    "0177.0.0.1",
    "2130706433",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
]
ANY = ["0.0.0.0", "0", "::", "::ffff:0.0.0.0"]
OTHERS = ["192.0.2.200", "198.51.100.7", "2001:db8::7", "::ffff:198.51.100.7", "nowhere.invalid", "x" * 300, "a b", "-x"]


def address_of_an_interface() -> str:
    """Return the address from which this machine would reach others; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.7", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


async def test_own_addresses_are_known_however_they_are_written() -> None:
    mapped = f"::ffff:{address_of_an_interface()}"
    own = {*LOOPBACK, *ANY, "localhost", socket.gethostname(), address_of_an_interface(), mapped}

    assert await own_of([*own, *OTHERS]) == own


async def test_nothing_is_asked_about_nothing() -> None:
    assert await own_of([]) == set()
