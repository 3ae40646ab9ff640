"""Cuts a stream of server-sent events between events, so that a frame of ours can always follow what was forwarded."""

import re

from control_api.router.upstream import AnswerLost, UpstreamAnswer

EVENT_LIMIT_BYTES = 16 << 20
_LEADING_COMMENTS = re.compile(rb"(?:\r?\n|:[^\n]*\n)+")
_END_MARKS = (b"data: [DONE]", b"data:[DONE]")


class EventCutter:
    """Holds back the unfinished event at the end of what was fed. ``done``: the end mark ``[DONE]`` came by."""

    def __init__(self) -> None:
        self._held = b""
        self.done = False

    def feed(self, piece: bytes) -> bytes:
        """Return all events that are complete with this piece. Raises ``AnswerLost`` if one grows beyond the limit."""
        data = self._held + piece if self._held else piece
        from_ = max(0, len(self._held) - 2)
        cut = max(data.rfind(b"\n\n", from_) + 2, data.rfind(b"\n\r\n", from_) + 3)
        if cut < 4:
            cut = 0
        events, self._held = data[:cut], data[cut:]
        if len(self._held) > EVENT_LIMIT_BYTES:
            raise AnswerLost("an event without an end")
        if events and events[-32:].rstrip().endswith(_END_MARKS):
            self.done = True
        return events


async def first_events(answer: UpstreamAnswer, cutter: EventCutter) -> bytes:
    """Return the first events that carry data; comments before them are dropped, for they are no sign of an answer.

    Raises ``AnswerLost`` if the stream ends before.
    """
    while piece := await answer.chunk():
        events = cutter.feed(piece)
        if comments := _LEADING_COMMENTS.match(events):
            events = events[comments.end() :]
        if events:
            return events
    raise AnswerLost("the stream ended before its first event")
