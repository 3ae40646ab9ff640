"""One tree of errors. Each carries a stable code and an HTTP status; the edges render it.

    MusterError
    ├── BadInput          422  invalid_request
    ├── Unauthenticated   401  unauthenticated
    ├── Forbidden         403  forbidden
    ├── NotFound          404  not_found
    ├── Conflict          409  conflict
    ├── TooLarge          413  request_too_large
    ├── TooMany           429  too_many
    ├── BadAnswer         502  bad_answer
    ├── Unavailable       503  unavailable
    └── StartupError      process refuses to start

Once published a code does not change. Sub-codes are given where the error is raised:
``raise NotFound("No playbook 'x'.", code="unknown_playbook", hint="Known: site.yml")``.
"""

from typing import Any


class MusterError(Exception):
    """Base of all errors that a caller may see.

    Parameters
    ----------
    message: what is wrong, one sentence, naming the thing.
    code: stable machine-readable code; the class gives the default.
    hint: what to do about it.
    details: anything structured that helps, e.g. field errors.
    """

    status = 500
    code = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        details: Any = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.hint = hint
        self.details = details
        self.headers = headers or {}


class BadInput(MusterError):
    """What the caller sent cannot be accepted."""

    status, code = 422, "invalid_request"


class Unauthenticated(MusterError):
    """No credential, or one that is not valid."""

    status, code = 401, "unauthenticated"


class Forbidden(MusterError):
    """A valid credential that may not do this."""

    status, code = 403, "forbidden"


class NotFound(MusterError):
    """The thing named does not exist."""

    status, code = 404, "not_found"


class Conflict(MusterError):
    """The thing exists, but its state does not allow this."""

    status, code = 409, "conflict"


class TooLarge(MusterError):
    """A body that is not read to its end."""

    status, code = 413, "request_too_large"


class TooMany(MusterError):
    """More of something than one caller, or all together, may ask for now."""

    status, code = 429, "too_many"


class BadAnswer(MusterError):
    """Somebody whom Muster asked answered with what cannot be used."""

    status, code = 502, "bad_answer"


class Unavailable(MusterError):
    """Something Muster needs does not answer now; trying again may help."""

    status, code = 503, "unavailable"


class StartupError(MusterError):
    """The process cannot start with the configuration it was given."""

    code = "startup_failed"
