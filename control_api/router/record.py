"""What is kept of a request once its answer is over."""

from typing import NamedTuple, Protocol


class RequestRecord(NamedTuple):
    """One finished request. Durations in seconds; ``first_byte_s`` is ``None`` if nothing of an answer came.

    ``status`` is 499 when the client left; ``error_code`` is that of our own error, also at the end of a stream.
    Tokens are ``None`` if the node did not tell; the contents are ``None`` unless they shall be kept.
    """

    request_id: str
    caller_id: str
    path: str
    model: str
    stream: bool
    node_id: str | None
    status: int
    error_code: str | None
    attempts: int
    queue_s: float
    first_byte_s: float | None
    duration_s: float
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    request_content: bytes | None = None
    response_content: bytes | None = None


class RecordSink(Protocol):
    """Takes records. It is called after the answer, in the event loop, so it must not wait.

    ``dropped``: how many it could not keep.
    """

    dropped: int

    def record(self, record: RequestRecord) -> None:
        """Take one record."""
        ...
