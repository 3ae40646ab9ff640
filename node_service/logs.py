"""Structured logs: JSON lines on stderr, and the last records in memory for `/v0/logs`."""

import logging
import sys
from collections import deque
from collections.abc import MutableMapping
from typing import Any

import structlog

from node_service.text import fit_for_logs

__all__ = ["LEVELS", "LogRing", "configure_logging"]

LEVELS = ("debug", "info", "warning", "error", "critical")
_CAPACITY = 2000  # records
_FIELD_LIMIT = 2000  # characters


class LogRing:
    """The last log records, bounded in number and in size."""

    def __init__(self) -> None:
        self._records: deque[dict[str, Any]] = deque(maxlen=_CAPACITY)

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Keep a record; a structlog processor."""
        self._records.append({key: _bounded(value) for key, value in event.items()})
        return event

    def tail(self, limit: int, level: str = "debug") -> list[dict[str, Any]]:
        """Return up to `limit` records of at least `level`, oldest first."""
        least = LEVELS.index(level)
        wanted = [r for r in self._records if LEVELS.index(r.get("level", "info")) >= least]
        return wanted[-limit:]


def configure_logging(level: str, ring: LogRing) -> None:
    """Send our logs and those of the libraries through one chain of processors."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                fit_for_logs,
                ring,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # The client libraries log every request at info: with secrets in the query of signed URLs.
    for noisy in ("httpx2", "httpcore2", "huggingface_hub", "filelock", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _bounded(value: Any) -> Any:
    if isinstance(value, int | float | bool) or value is None:
        return value
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _FIELD_LIMIT else f"{text[:_FIELD_LIMIT]}…"
