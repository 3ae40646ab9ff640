"""uvicorn's WebSocket connection, with bounds where it has none."""

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

# A client that reads nothing for so long has left without saying so.
STUCK_S = 60.0
# A message in more pieces than this is nothing honest: empty ones count for nothing in its size.
MOST_FRAMES = 1024
_NO_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedSocket(WebSocketsSansIOProtocol):
    """The WebSocket of a client."""

    stuck_s = STUCK_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stuck: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Parse; a handshake that only the HTTP parser understood is answered all the same."""
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(_NO_HANDSHAKE)
            self.transport.close()

    def handle_cont(self, event: Frame) -> None:
        """Take a piece of a message."""
        if len(self.frames) >= MOST_FRAMES:
            self.conn.fail(1009, "too many frames in one message")
            self.handle_parser_exception()
        else:
            super().handle_cont(event)

    def pause_writing(self) -> None:
        """The client does not read fast enough: nothing more of it is read, or its pings would pile up as pongs."""
        super().pause_writing()
        self.transport.pause_reading()
        self._stuck = self.loop.call_later(self.stuck_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read on."""
        super().resume_writing()
        self._unstick()
        if not self.read_paused:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End everything."""
        self._unstick()
        super().connection_lost(exc)

    def _unstick(self) -> None:
        if self._stuck:
            self._stuck.cancel()
            self._stuck = None
