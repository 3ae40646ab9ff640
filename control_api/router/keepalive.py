"""Comments in a stream whose first event is long in coming, so that nothing between client and router closes it."""

import asyncio
from typing import Self

from control_api.router.reply import Reply

COMMENT = b": keep-alive\n\n"


class KeepAlive:
    """Once armed, fixes the status at 200 after ``interval_s`` and sends a comment each time as long again.

    A context manager that has stopped at its end.
    """

    def __init__(self, reply: Reply, *, interval_s: float) -> None:
        self._reply = reply
        self._interval_s = interval_s
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def arm(self) -> None:
        """Start the clock, unless it runs."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._begin)

    async def stop(self) -> None:
        """Send no more comments; one that is being sent is finished."""
        if self._timer:
            self._timer.cancel()
        if self._task:
            async with self._sending:
                self._task.cancel()
            await asyncio.wait((self._task,))

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._comment(), name="router.keep_alive")

    async def _comment(self) -> None:
        while True:
            async with self._sending:
                self._reply.begin_stream()
                await self._reply.events(COMMENT)
            await asyncio.sleep(self._interval_s)
