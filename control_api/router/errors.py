"""What the router says when it cannot answer, in OpenAI's error shape.

MusterError
└── RouterError
    ├── InvalidRequest    400  invalid_json, invalid_type, missing_required_parameter
    ├── BadHttp           400  bad_http
    ├── CrashesEngines    400  engine_crashed
    ├── InvalidKey        401  invalid_api_key
    ├── PermissionDenied  403  permission_denied
    ├── UnknownUrl        404  unknown_url
    ├── ModelNotFound     404  model_not_found
    ├── WrongMethod       405  method_not_allowed
    ├── SlowHead          408  request_timeout
    ├── SlowBody          408  request_timeout
    ├── TooLarge          413  request_too_large
    ├── HeadTooLarge      431  request_header_fields_too_large
    ├── QueueFull         429  queue_full
    ├── RateLimited       429  rate_limit_exceeded
    ├── UpstreamError     502  upstream_error
    ├── NotReady          503  model_loading, no_ready_node, queue_timeout
    ├── UpstreamTimeout   504  upstream_timeout
    └── PassedError       as the node said it
"""

import json
import math

from control_api.errors import MusterError


def _retry_after(seconds: float) -> dict[str, str]:
    """Return when to come back: in whole seconds for all, to the millisecond for clients that read it."""
    return {"retry-after": str(max(1, math.ceil(seconds))), "retry-after-ms": str(max(1, round(seconds * 1000)))}


class RouterError(MusterError):
    """Base of what a client of ``/v1`` may be told. ``type`` and ``param`` are OpenAI's."""

    type = "invalid_request_error"
    param: str | None = None

    def body(self) -> bytes:
        """Return the error as OpenAI writes it."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return json.dumps({"error": error}, ensure_ascii=False, separators=(",", ":")).encode()


class InternalError(RouterError):
    """A mistake of ours."""

    type = "server_error"


class InvalidRequest(RouterError):
    """A body that cannot be routed."""

    status = 400

    def __init__(self, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(message, code=code)
        self.param = param


class BadHttp(RouterError):
    """Bytes that are no HTTP, or could be read in more than one way."""

    status, code = 400, "bad_http"


class CrashesEngines(RouterError):
    """A body that took engines down."""

    status, code = 400, "engine_crashed"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"x-should-retry": "false"})


class InvalidKey(RouterError):
    """No API key or token, or one that is not valid.

    Parameters
    ----------
    why: completes OpenAI's own words, by which some clients (LiteLLM) tell this error from others.
    """

    status, code = 401, "invalid_api_key"

    def __init__(self, why: str) -> None:
        super().__init__(f"Incorrect API key provided: {why}.", headers={"www-authenticate": "Bearer"})


class PermissionDenied(RouterError):
    """A valid key that may not do this."""

    status, code = 403, "permission_denied"


class UnknownUrl(RouterError):
    """A path that the router does not have."""

    status, code = 404, "unknown_url"


class ModelNotFound(RouterError):
    """A model that nobody registered."""

    status, code, param = 404, "model_not_found", "model"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model {model!r} does not exist.")


class WrongMethod(RouterError):
    """A path that exists, by another method."""

    status, code = 405, "method_not_allowed"


class TooManyConnections(RouterError):
    """A connection beyond those that this process has room for."""

    status, code, type = 503, "too_many_connections", "server_error"


class SlowHead(RouterError):
    """Headers that do not come to their end."""

    status, code = 408, "request_timeout"


class SlowBody(RouterError):
    """A body that stopped arriving."""

    status, code = 408, "request_timeout"


class TooLarge(RouterError):
    """A body above the limit."""

    status, code = 413, "request_too_large"


class HeadTooLarge(RouterError):
    """Headers above the limit."""

    status, code = 431, "request_header_fields_too_large"


class QueueFull(RouterError):
    """Nobody more may wait for this model."""

    status, code, type, param = 429, "queue_full", "rate_limit_error", "model"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, headers=_retry_after(retry_after_s))


class RateLimited(RouterError):
    """The key has used up what it may in a minute. ``told``: lines of a head about its limits."""

    status, code, type = 429, "rate_limit_exceeded", "rate_limit_error"

    def __init__(self, message: str, *, retry_after_s: float, told: bytes) -> None:
        super().__init__(message, headers=_retry_after(retry_after_s))
        self.told = told


class NotReady(RouterError):
    """A model that cannot be answered now, but may be later."""

    status, type, param = 503, "server_error", "model"

    def __init__(self, message: str, *, code: str, retry_after_s: float) -> None:
        super().__init__(message, code=code, headers=_retry_after(retry_after_s))


class UpstreamError(RouterError):
    """Every node that could be asked failed. ``retry_after_s``: there are others, which could not be asked now."""

    status, code, type = 502, "upstream_error", "server_error"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        headers = {"x-should-retry": "false"} if retry_after_s is None else _retry_after(retry_after_s)
        super().__init__(message, headers=headers)


class UpstreamTimeout(UpstreamError):
    """The last node that could be asked did not answer in time."""

    status, code = 504, "upstream_timeout"


class PassedError(RouterError):
    """A node's own words to the client."""

    def __init__(self, message: str, *, status: int, type_: str | None, param: str | None, code: str | None) -> None:
        super().__init__(message, code=code or "upstream_error")
        self.status = status
        self.type = type_ or "server_error"
        self.param = param
