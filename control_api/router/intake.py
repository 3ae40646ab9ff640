"""Requests out of a client's bytes: parsed by llhttp in its strict mode, everything bounded, nothing read in two ways."""

from collections.abc import Callable

import httptools

from control_api.kit.bounds import BodyClock, Bounds, fault_of_head, too_large
from control_api.router.client import BodySource, Request
from control_api.router.errors import BadHttp, HeadTooLarge, RouterError, SlowBody

# The parser gets no more at once, so that what is counted is never far behind what was parsed.
SLICE_BYTES = 1 << 13


class Intake:
    """Makes requests, one after the other, and stops for good at the first that is none.

    Parameters
    ----------
    source: what the requests come over.
    arrived: called with each request whose head is here; its body may be still to come.

    ``incoming``: the request that is under way. ``head_at``: since when a head is waited for, ``None`` if none is.
    ``overhead_bytes``: of a head so far, or since the last piece of a body: sizes of chunks, trailers.
    ``expects``: the client sends its body once it is asked to. ``upgraded``: what follows is no HTTP any more.
    ``fault``: why nothing more is understood.
    """

    def __init__(self, source: BodySource, bounds: Bounds, arrived: Callable[[Request], None], now: float) -> None:
        self._source = source
        self._bounds = bounds
        self._head_bytes, self._head_lines = bounds.head_bytes, bounds.head_lines
        self._arrived = arrived
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._hosts: list[tuple[bytes, bytes]] = []
        self._proper: tuple[str, bytes, list[tuple[bytes, bytes]]] | None = None
        self._lines = 0
        self._now = now
        self._clock: BodyClock | None = None
        self._clocked_bytes = 0
        self.incoming: Request | None = None
        self.head_at: float | None = now
        self.overhead_bytes = 0
        self.expects = self.upgraded = False
        self.fault: RouterError | None = None

    def feed(self, data: bytes, now: float) -> None:
        """Parse what the client sent."""
        self._now = now
        if self.head_at is None and self.incoming is None:
            self.head_at = now
        if len(data) <= SLICE_BYTES and self.overhead_bytes + len(data) <= self._head_bytes:
            self._feed(data)
            return
        start = 0
        while start < len(data) and not self.fault and not self.upgraded:
            room = self._head_bytes - self.overhead_bytes
            if room <= 0:
                self._too_large()
                return
            end = start + min(SLICE_BYTES, room)
            self._feed(data[start:end])
            start = end

    def _feed(self, piece: bytes) -> None:
        self.overhead_bytes += len(piece)
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self.upgraded = True
        except httptools.HttpParserError as error:
            self.fault = self.fault or BadHttp(f"The request is no proper HTTP: {error}.")
        if self._lines > self._head_lines:
            self._too_large()

    def _too_large(self) -> None:
        self.fault = self.fault or HeadTooLarge(too_large(self._bounds).message)

    def late(self) -> RouterError | None:
        """Count a tick in which the rest of a body was waited for; return what is wrong if it was one too many.

        What has come is looked up here and not counted as it comes, for nearly all bodies are complete before any tick.
        """
        if (request := self.incoming) is None:
            return None
        if self._clock is None:
            self._clock, self._clocked_bytes = BodyClock(self._bounds), 0
        if came := request.size_bytes - self._clocked_bytes:
            self._clock.took(came)
            self._clocked_bytes += came
        fault = self._clock.tick()
        return SlowBody(fault.message) if fault else None

    # What the parser tells

    def on_message_begin(self) -> None:
        """Take a new request."""
        if self.fault:
            return
        self.incoming = Request(self._source)
        self._target, self._hosts, self._lines, self._clock = b"", [], 0, None
        self.head_at = self._now

    def on_url(self, target: bytes) -> None:
        """Collect the target, which may come in pieces."""
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are dropped."""
        self._lines += 1
        if (request := self.incoming) and not request.method:
            name = name.lower()
            request.headers[name] = value
            if name == b"host":
                self._hosts.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is here: the request waits for its turn, if it is one."""
        request, parser, target = self.incoming, self._parser, self._target
        if self._lines > self._head_lines:
            self._too_large()
        if self.fault or request is None:
            return
        version = parser.get_http_version()
        head = (version, target, self._hosts)
        if head != self._proper:  # a connection that is kept asks for the same again and again
            if fault := fault_of_head(*head):
                self.fault = BadHttp(fault.message)
                return
            self._proper = head
        self.head_at = None
        request.chunked = version == "1.1"
        request.keep_alive = request.chunked and parser.should_keep_alive() and not parser.should_upgrade()
        path = target if target.startswith(b"/") else httptools.parse_url(target).path or b"/"
        request.begin(parser.get_method().decode(), path.decode("latin-1"))
        self.expects = request.headers.get(b"expect", b"").lower() == b"100-continue"
        self._arrived(request)

    def on_body(self, piece: bytes) -> None:
        """Hand a piece of the body on."""
        self.overhead_bytes = 0
        if self.incoming and not self.fault:
            self.incoming.add(piece)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._lines > self._head_lines:
            self._too_large()
        if self.fault:
            return
        self.overhead_bytes = 0
        self.expects = False
        if self.incoming:
            self.incoming.end()
            self.incoming = None
