"""Errors of the client.

ApiError            the API answered with an error; ``code`` is the API's
├── ApiUnreachable  no answer: refused, timed out, cut off
└── NotSignedIn     401: no credential, or one that is no longer valid
"""

from typing import Any

import httpx2


class ApiError(Exception):
    """What went wrong with a call of the control API.

    ``message`` and ``hint`` are for people, ``code`` is stable, ``status`` is the HTTP status (0: there was no answer),
    ``request_id`` finds the call in the logs of the API.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        status: int = 0,
        request_id: str | None = None,
        details: Any = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status
        self.request_id = request_id
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class ApiUnreachable(ApiError):
    """The control API does not answer."""

    def __init__(self, base_url: str, cause: BaseException) -> None:
        super().__init__(
            "api_unreachable",
            f"The control API at {base_url} does not answer.",
            hint=str(cause) or type(cause).__name__,
        )


class NotSignedIn(ApiError):
    """The credential is missing, wrong, expired or revoked."""


def from_response(response: httpx2.Response) -> ApiError:
    """Return the error that an answer of status 400 or more means; an answer of something else than Muster included."""
    kind = NotSignedIn if response.status_code == 401 else ApiError
    try:
        problem = response.json()["error"]
        code, message = str(problem["code"]), str(problem["message"])
    except (ValueError, KeyError, TypeError):
        return kind(
            f"http_{response.status_code}",
            f"{response.request.method} {response.request.url.path} was answered {response.status_code}.",
            status=response.status_code,
            request_id=response.headers.get("x-request-id"),
        )
    return kind(
        code,
        message,
        hint=problem.get("hint"),
        status=response.status_code,
        request_id=problem.get("request_id") or response.headers.get("x-request-id"),
        details=problem.get("details"),
    )
