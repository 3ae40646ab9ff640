"""Real hosts: booted once for all tests of a session."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.hosts.lab import Host, Lab


@dataclass(frozen=True)
class LabHosts:
    """One host of each Debian release; `isolated` has no route out."""

    lab: Lab
    bookworm: Host
    isolated: Host

    @property
    def all(self) -> list[Host]:
        return [self.bookworm, self.isolated]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "lab_hosts" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.hosts)


@pytest.fixture(scope="session")
def lab_hosts() -> Iterator[LabHosts]:
    """Two bare hosts with sshd and systemd: Debian 12, and Debian 13 that reaches nothing but this machine."""
    if reason := Lab.missing():
        message = f"NO REAL HOSTS, so nothing was provisioned over SSH: {reason}"
        if os.environ.get("MUSTER_REQUIRE_HOSTS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    lab = Lab.open()
    try:
        hosts = LabHosts(lab, lab.boot("deb12", "bookworm"), lab.boot("deb13", "trixie", route=False))
        lab.wait()
        yield hosts
    finally:
        lab.close()
