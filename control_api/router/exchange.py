"""One exchange with whoever serves a model: send the request, wait until it is clear what kind of answer comes."""

from typing import NamedTuple

from control_api.router.balance import Lease
from control_api.router.call import Call
from control_api.router.sse import END_MARKS, EventCutter, first_events
from control_api.router.upstream import Upstream, UpstreamAnswer, UpstreamRequest


class Stream(NamedTuple):
    """The part of a stream that is still to come."""

    answer: UpstreamAnswer
    cutter: EventCutter


class Opened(NamedTuple):
    """An answer that has begun: ``body`` is all of it, or the first events of a stream, which holds the lease to its end."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    stream: Stream | None = None
    lease: Lease | None = None


async def exchange(upstream: Upstream, request: UpstreamRequest, call: Call, *, limit_bytes: int) -> Opened:
    """Return the answer to a request: a stream from its first event on, anything else whole.

    Raises a ``NodeFailure`` if no answer came.
    """
    answer = await upstream.send(request)
    opened = None
    try:
        is_stream = answer.headers.get(b"content-type", b"").startswith(b"text/event-stream")
        if call.stream and answer.status == 200 and is_stream:
            cutter = EventCutter(END_MARKS[call.path])
            first = await first_events(answer, cutter)
            answer.begun()
            opened = Opened(answer.status, answer.headers, first, Stream(answer, cutter))
            return opened
        return Opened(answer.status, answer.headers, await answer.read(limit_bytes))
    finally:
        if opened is None:
            answer.close()


def headers_of(call: Call) -> bytes:
    """Return the lines that every request of a call has."""
    accept = b"text/event-stream" if call.stream else b"application/json"
    return b"content-type: %b\r\naccept: %b\r\nx-request-id: %b\r\n" % (call.content_type, accept, call.request_id.encode())
