"""Cuts a stream of server-sent events between events, so that a frame of ours can always follow what was forwarded."""

import re

from control_api.router.upstream import AnswerLost, UpstreamAnswer

EVENT_LIMIT_BYTES = 16 << 20
_LEADING_COMMENTS = re.compile(rb"(?:\r?\n|:[^\n]*\n)+")
RESPONSES_PATH = "/v1/responses"
_DONE = re.compile(rb"data: ?\[DONE\]\s*\Z")
_RESPONSE_ENDS = re.compile(rb"^event: ?response\.(?:completed|incomplete|failed)\r?$", re.MULTILINE)
# By path: what tells that a stream has come to its proper end.
END_MARKS = {
    "/v1/chat/completions": _DONE,
    "/v1/completions": _DONE,
    "/v1/embeddings": _DONE,
    RESPONSES_PATH: _RESPONSE_ENDS,
}


class EventCutter:
    """Holds back the unfinished event at the end of what was fed. ``done``: the end mark came by."""

    def __init__(self, end_mark: re.Pattern[bytes] = _DONE) -> None:
        self._end_mark = end_mark
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
        if self._end_mark is _DONE:
            self.done = self.done or _DONE.search(events, max(0, len(events) - 32)) is not None
        elif self._end_mark.search(events):
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
