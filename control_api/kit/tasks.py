"""Background tasks: each is owned, cancelled and awaited."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import structlog

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def owned_task(coroutine: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[asyncio.Task[None]]:
    """Run a background task for the length of the block; cancel and await it at the end.

    A task that ends by an error before that is logged when it happens, and its error is raised at the end of the block.
    """
    task = asyncio.create_task(coroutine, name=name)
    task.add_done_callback(_log_failure)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("task.failed", task=task.get_name(), exc_info=error)
