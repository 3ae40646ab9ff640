"""Tokens of a request: asked for in every stream, read from the answer, and hidden again if the client did not ask. Pure."""

import json
import re
from typing import Any, NamedTuple

PATHS = frozenset({"/v1/chat/completions", "/v1/completions"})
_ASK = b'"stream_options":{"include_usage":true},'
_KEY = b'"usage"'
_PROMPT = re.compile(rb'"(?:prompt|input)_tokens"\s*:\s*(\d{1,12})')
_COMPLETION = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*(\d{1,12})')
# No model's context has room for more. What exceeds it is a mistake or a lie, and is treated as if nothing had been said: cut
# down to this it would still make a key wait for days.
LARGEST_CONTEXT_TOKENS = 1 << 24
# The object behind "usage" is small, and the last thing or nearly so.
_WINDOW_BYTES = 1024


class Usage(NamedTuple):
    """Tokens that went in and came out; embeddings have none of the latter."""

    prompt_tokens: int
    completion_tokens: int


def ask_for_usage(body: bytes) -> bytes:
    """Return the body of a streaming request, a JSON object without ``stream_options``, that asks for usage."""
    begin = body.index(b"{") + 1
    return body[:begin] + _ASK + body[begin:]


def usage_of(body: bytes) -> Usage | None:
    """Return what a whole answer says was used, if it says so and can be believed."""
    at = body.rfind(_KEY)
    if at < 0:
        return None
    window = body[at : at + _WINDOW_BYTES]
    prompt = _PROMPT.search(window)
    completion = _COMPLETION.search(window)
    if prompt is None:
        return None
    usage = Usage(int(prompt[1]), int(completion[1]) if completion else 0)
    return usage if sum(usage) <= LARGEST_CONTEXT_TOKENS else None


class UsageMeter:
    """Watches the events of a stream go by.

    Parameters
    ----------
    hide: take the event that carries nothing but usage out.
    """

    def __init__(self, *, hide: bool) -> None:
        self._hide = hide
        self.usage: Usage | None = None

    def watch(self, events: bytes) -> bytes:
        """Return complete events as they shall be passed on."""
        if _KEY not in events:
            return events
        kept = [event for event in _split(events) if not (self._reads_usage(event) and self._hide)]
        return b"".join(kept)

    def _reads_usage(self, event: bytes) -> bool:
        """Note the usage in an event; tell whether the event has nothing else."""
        if event.startswith(b"event: response."):
            self.usage = usage_of(event) or self.usage
            return False
        if _KEY not in event or not event.startswith(b"data:"):
            return False
        try:
            chunk: Any = json.loads(event[5:])
        except ValueError:
            return False
        found = chunk.get("usage") if isinstance(chunk, dict) else None
        if not isinstance(found, dict):
            return False
        self.usage = usage_of(event) or self.usage
        return bool(chunk.get("choices") == [])


def _split(events: bytes) -> list[bytes]:
    """Return single events, each with the empty line that ends it."""
    return re.findall(rb".*?\r?\n\r?\n", events, re.DOTALL)
