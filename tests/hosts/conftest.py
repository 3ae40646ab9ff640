"""Real hosts: the lab is set up once for a session, the hosts are booted anew for each module."""

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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.hosts)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab of this session; without root or podman the tests are skipped, or fail with MUSTER_REQUIRE_HOSTS=1."""
    if reason := Lab.missing():
        message = f"NO REAL HOSTS, so nothing was provisioned over SSH: {reason}"
        if os.environ.get("MUSTER_REQUIRE_HOSTS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    opened = Lab.open()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def lab_hosts(lab: Lab) -> Iterator[LabHosts]:
    """Two bare hosts with sshd and systemd: Debian 12, and Debian 13 that reaches nothing but this machine."""
    hosts = LabHosts(lab, lab.boot("deb12", "bookworm"), lab.boot("deb13", "trixie", route=False))
    lab.wait()
    yield hosts
    lab.remove_hosts()
