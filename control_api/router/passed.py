"""What a client is told of the head of a node's answer: nothing in the node's own words."""

import re
from collections.abc import Mapping

from control_api.router.reply import JSON

# Types that no browser runs. What claims to be anything else is bytes.
_TYPES = {
    b"": JSON,
    b"application/json": JSON,
    b"text/event-stream": b"text/event-stream; charset=utf-8",
    b"text/plain": b"text/plain; charset=utf-8",
    b"text/vtt": b"text/vtt; charset=utf-8",
}
_BYTES = b"application/octet-stream"
_SECONDS = re.compile(rb"[0-9]{1,6}")


def content_type(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the type to give an answer; one without a type is JSON, as nodes answer."""
    return _TYPES.get(headers.get(b"content-type", b"").partition(b";")[0].strip().lower(), _BYTES)


def retry_after(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return how many seconds the node asks to wait, if it says that in digits."""
    said = headers.get(b"retry-after", b"").strip()
    return said if _SECONDS.fullmatch(said) else None
