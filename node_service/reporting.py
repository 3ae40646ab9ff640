"""Registration and heartbeats: how the control API learns what this node is and does."""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any, Protocol

import structlog

from node_service.control import ControlClient
from node_service.errors import (
    ControlError,
    ControlRefused,
    ControlUnreachable,
    EnrolmentRequired,
    ManifestRefused,
)
from node_service.identity import IdentityStore
from node_service.problems import Problems
from node_service.wire import HeartbeatAnswer, Manifest

__all__ = ["Node", "Reporter"]

_MAX_BACKOFF_S = 10.0  # well under the 30 s of silence after which a node counts as offline
_CONTROL_CODES = (ControlUnreachable.code, EnrolmentRequired.code, ControlRefused.code)

log = structlog.get_logger(__name__)


class Node(Protocol):
    """What the reporter reports on, and tells of changes."""

    @property
    def applied_revision(self) -> int | None:
        """The revision of the manifest that was taken last."""

    def registration(self) -> dict[str, Any]:
        """Return the facts sent at registration."""

    def heartbeat(self) -> dict[str, Any]:
        """Return the body of a heartbeat, without instance, sequence number and errors."""

    def heard(self, answer: HeartbeatAnswer) -> None:
        """Take the control API's answer to a heartbeat."""

    async def apply(self, manifest: Manifest) -> None:
        """Take a manifest; raises ManifestRefused."""


class Reporter:
    """Registers the node, then reports at an interval and at once when something changed.

    With the API away it goes on trying and disturbs nothing. When the API does not know the
    node any more, it says that a new enrolment ticket is needed, and takes one as soon as it
    appears in the ticket file.
    """

    def __init__(
        self,
        *,
        node: Node,
        control: ControlClient,
        identities: IdentityStore,
        problems: Problems,
        ticket_file: Path | None,
        instance_id: str,
    ) -> None:
        self._node = node
        self._control = control
        self._identities = identities
        self._problems = problems
        self._ticket_file = ticket_file
        self._instance_id = instance_id
        self._seq = 0
        self._failures = 0
        self._known = True  # until the API says otherwise
        self._manifest_due = False
        self._refused_ticket: str | None = None
        self._wake = asyncio.Event()

    def report_soon(self) -> None:
        """Send a heartbeat now instead of at the next interval."""
        # While the API is away, changes must not turn into a storm of attempts.
        if self._failures == 0:
            self._wake.set()

    def sync(self) -> None:
        """Send a heartbeat and read the manifest now, whatever went wrong before."""
        self._manifest_due = True
        self._wake.set()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            self._wake.clear()
            pause_s = await self._turn()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause_s)

    async def _turn(self) -> float:
        """Register if needed and report once; return the seconds until the next time."""
        try:
            await self._register_if_needed()
            await self._report()
        except ControlUnreachable as error:
            self._fail(error, str(error))
            backoff_s = self._interval_s * 2.0 ** min(self._failures - 1, 10)
            return min(backoff_s, _MAX_BACKOFF_S) * random.uniform(0.8, 1.0)
        except EnrolmentRequired as error:
            self._known = False
            self._fail(error, f"{error}; needs a new enrolment ticket in {self._ticket_file}")
            return self._interval_s
        except ControlError as error:
            self._fail(error, str(error))
            return self._interval_s
        if self._failures:
            log.info("control API answers again", failures=self._failures)
        self._failures = 0
        self._problems.clear(*_CONTROL_CODES)
        return self._interval_s

    @property
    def _interval_s(self) -> float:
        return self._identities.current.heartbeat_interval_s

    def _fail(self, error: ControlError, message: str) -> None:
        self._failures += 1
        if self._problems.raise_(error.code, message):
            log.warning("reporting failed", code=error.code, error=message)
        self._problems.clear(*(code for code in _CONTROL_CODES if code != error.code))

    async def _register_if_needed(self) -> None:
        if self._identities.current.registered and self._known:
            return
        ticket = self._read_ticket()
        if ticket is None:
            if not self._identities.current.registered:
                raise EnrolmentRequired("this node is not registered")
            return  # the token is tried again: the API may have been restored meanwhile
        try:
            answer = await self._control.register(ticket, self._facts())
        except EnrolmentRequired:
            self._refused_ticket = ticket
            raise
        self._identities.update(
            node_id=answer.node_id,
            token=answer.node_token,
            store_id=answer.store_id,
            heartbeat_interval_s=answer.heartbeat_interval_s,
        )
        self._forget_ticket()
        self._known = True
        log.info("registered", node_id=answer.node_id, state=answer.state)

    def _facts(self) -> dict[str, Any]:
        key = self._identities.current.inference_key
        facts = {"instance_id": self._instance_id, "inference_key": key}
        return facts | self._node.registration()

    def _read_ticket(self) -> str | None:
        if self._ticket_file is None:
            return None
        try:
            ticket = self._ticket_file.read_text(encoding="utf-8").strip()
        except OSError:
            return None
        # A ticket that was refused once is refused for ever: wait for another one.
        return ticket if ticket and ticket != self._refused_ticket else None

    def _forget_ticket(self) -> None:
        if self._ticket_file is None:
            return
        try:
            self._ticket_file.unlink(missing_ok=True)
        except OSError as error:
            # It is used up, so this is untidy and not dangerous.
            log.warning("cannot delete the enrolment ticket", error=str(error))

    async def _report(self) -> None:
        self._seq += 1
        report = {"instance_id": self._instance_id, "seq": self._seq} | self._node.heartbeat()
        # A report that arrives is no proof of a control API that is away.
        report["errors"] = self._problems.report(but=_CONTROL_CODES)
        answer = await self._control.heartbeat(report)
        self._known = True
        if answer.next_token is not None:
            self._identities.update(token=answer.next_token)
        self._node.heard(answer)
        if self._manifest_due or answer.manifest_revision != self._node.applied_revision:
            await self._read_manifest()

    async def _read_manifest(self) -> None:
        manifest = await self._control.manifest()
        self._manifest_due = False
        try:
            await self._node.apply(manifest)
        except ManifestRefused as error:
            if self._problems.raise_(error.code, str(error)):
                log.error("manifest refused", error=str(error))
            return
        self._problems.clear(ManifestRefused.code)
        self.report_soon()
