"""One process at a time fetches an artifact, also when several share a store directory."""

import asyncio
import json
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog
from filelock import FileLock, Timeout

from node_service.errors import ArtifactBusy

__all__ = ["ArtifactLock"]

_PATIENCE_S = 300.0
_POLL_S = 0.5

log = structlog.get_logger(__name__)


class ArtifactLock:
    """Lock of one artifact, with a note that says who holds it since when and how far it is.

    The kernel frees the lock when its holder dies, so that a stale one is taken over at once;
    the note of a dead holder, or of one before the last boot, is only logged.
    """

    def __init__(self, directory: Path, digest: str) -> None:
        self._lock = FileLock(directory / f"{digest}.lock", thread_local=False)
        self._note = directory / f"{digest}.holder.json"
        self._started_at = ""

    async def __aenter__(self) -> "ArtifactLock":
        """Take the lock; raises ArtifactBusy when another process keeps it for five minutes."""
        deadline = time.monotonic() + _PATIENCE_S
        while not self._try():
            if time.monotonic() > deadline:
                raise ArtifactBusy(f"another process fetches this artifact: {self.holder()}")
            await asyncio.sleep(_POLL_S)
        stale = self.holder()
        if stale is not None:
            log.warning("stale lock taken over", holder=stale, same_boot=_same_boot(stale))
        self._started_at = datetime.now(UTC).isoformat()
        self.note(0.0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the lock back."""
        self._note.unlink(missing_ok=True)
        self._lock.release()

    def note(self, fraction: float) -> None:
        """Write down how far the fetch is, 0 to 1."""
        holder = {
            "pid": os.getpid(),
            "boot_id": _boot_id(),
            "started_at": self._started_at,
            "progress": round(fraction, 3),
        }
        self._note.write_text(json.dumps(holder), encoding="utf-8")

    def holder(self) -> dict[str, Any] | None:
        """Return the note of the present or last holder."""
        with suppress(OSError, ValueError):
            note: dict[str, Any] = json.loads(self._note.read_text(encoding="utf-8"))
            return note
        return None

    def _try(self) -> bool:
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        return True


def _same_boot(holder: dict[str, Any]) -> bool:
    return holder.get("boot_id") == _boot_id()


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
