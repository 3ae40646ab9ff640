"""Logs of every process: structlog, JSON lines or a console, the standard library's records in the same form."""

import io
import logging
import sys
from typing import TextIO

import structlog

from control_api.kit.text import fit_for_logs, loggable
from control_api.settings import Settings


def configure(settings: Settings, process: str) -> None:
    """Set up logging for one process of Muster; ``process`` names it in each line."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info if settings.log_format == "json" else structlog.processors.StackInfoRenderer(),
        fit_for_logs,
    ]
    console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_write_traceback)
    renderer = structlog.processors.JSONRenderer() if settings.log_format == "json" else console
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=renderer))
    logging.basicConfig(handlers=[handler], level=max(level, logging.INFO), force=True)
    for noisy in ("httpx2", "httpcore2", "alembic.runtime", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(process=process)


def _write_traceback(sio: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """Write a plain traceback: the pretty ones show the values of variables, and secrets are among them."""
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, exc_info)
    sio.write(loggable(plain.getvalue(), lines=True))
