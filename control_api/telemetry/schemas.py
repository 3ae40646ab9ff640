"""Wire schemas of what routers tell."""

from datetime import datetime

from control_api.kit.wire import Out


class RequestOut(Out):
    """A finished request. ``status`` 499: the client left."""

    id: int
    request_id: str
    at: datetime
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
    prompt_tokens: int | None
    completion_tokens: int | None


class RequestDetail(RequestOut):
    """A finished request with its content, if that was kept."""

    request_content: str | None
    response_content: str | None
