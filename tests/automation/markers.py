"""Who is on which host, in files that processes share: what went wrong between any number of them is seen there.

Any of these processes may be killed, or get no processor for a while, between any two steps. So a marker appears whole or not
at all; it says until when its run has the host, which is all that is asked of one that was left; and a run whose own lease is
over accuses nobody.
"""

import os
import uuid
from datetime import datetime
from pathlib import Path

from control_api.kit.clock import utcnow

VIOLATIONS = "violations"


class Markers:
    """One run's markers in a directory.

    Parameters
    ----------
    run: what the run is called.
    lease_until: until when nobody else may touch the run's hosts.
    """

    def __init__(self, directory: Path, run: str, lease_until: datetime) -> None:
        self._directory = directory
        self._run = run
        self._lease_until = lease_until
        self._text = f"{run} {lease_until.isoformat()}"

    def enter(self, host: str) -> None:
        """Mark a host as this run's; it is a violation if it is another's, unless that one's lease is over."""
        marker, mine = self._marker(host), self._private(host)
        mine.write_text(self._text)
        try:
            if (found := _read(marker)) and _lease_of(found) <= utcnow():
                self._take_away(host, found)
            os.link(mine, marker)
        except FileExistsError:
            self.violated(f"{self._run} met {_read(marker)} on {host}")
        finally:
            mine.unlink()

    def leave(self, host: str) -> None:
        """Take this run's marker away; it is a violation if it is not there."""
        if (found := _read(self._marker(host))) == self._text:
            self._take_away(host, found)
        else:
            self.violated(f"{self._run} met {found} on {host} when it left")

    def violated(self, what: str) -> None:
        """Write down what must not be."""
        if utcnow() < self._lease_until:
            append(self._directory / VIOLATIONS, what)

    def _take_away(self, host: str, expected: str) -> None:
        moved = self._private(host)
        try:
            self._marker(host).rename(moved)
        except FileNotFoundError:
            self.violated(f"{self._run} met somebody who took {expected} away from {host}")
            return
        if (found := moved.read_text()) != expected:
            self.violated(f"{self._run} met {found} on {host} instead of {expected}")
        moved.unlink()

    def _marker(self, host: str) -> Path:
        return self._directory / f"host-{host}"

    def _private(self, host: str) -> Path:
        return self._directory / f"own-{uuid.uuid4().hex}-{host}"


def append(path: Path, line: str) -> None:
    """Add a line to a file that others add lines to: whole or not at all."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def _read(marker: Path) -> str | None:
    try:
        return marker.read_text()
    except FileNotFoundError:
        return None


def _lease_of(marker: str) -> datetime:
    return datetime.fromisoformat(marker.rsplit(" ", 1)[1])
