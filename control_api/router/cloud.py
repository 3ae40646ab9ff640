"""Models of cloud providers: the request goes to the one that its prefix names, and to nobody else."""

import json
from collections.abc import Callable
from typing import Any

from control_api.router import passed
from control_api.router.call import Call
from control_api.router.errors import (
    InvalidRequest,
    PassedError,
    RouterError,
    UnknownUrl,
    UpstreamError,
    UpstreamTimeout,
)
from control_api.router.exchange import Opened, exchange, headers_of
from control_api.router.sse import RESPONSES_PATH
from control_api.router.table import RouteNode
from control_api.router.upstream import AnswerTimeout, NodeFailure, Upstream, UpstreamRequest
from control_api.router.verdict import passed_error

RETRY_S = 1.0


class Cloud:
    """Sends calls to providers. Nothing is tried again: another answer would cost, and be another one."""

    def __init__(self, upstream: Upstream, *, limit_bytes: int) -> None:
        self._upstream = upstream
        self._limit_bytes = limit_bytes

    async def open(self, call: Call, provider: RouteNode, on_send: Callable[[], None]) -> Opened:
        """Return the provider's answer. The caller closes it.

        Parameters
        ----------
        on_send: called before the call goes out.

        Raises a ``RouterError`` for what the provider could not or would not answer.
        """
        if call.pin is not None:
            raise InvalidRequest(f"{call.model} is on no node: it cannot be pinned.", code="unsupported_parameter")
        body = _for_provider(call)
        call.node, call.attempts = provider, 1
        on_send()
        request = UpstreamRequest(provider, call.path.removeprefix("/v1"), headers_of(call), body)
        try:
            opened = await exchange(self._upstream, request, call, limit_bytes=self._limit_bytes)
        except NodeFailure as failure:
            raise _unanswered(provider, failure) from failure
        if not 200 <= opened.status < 300:
            raise _refusal(call, provider, opened)
        return opened


def close(opened: Opened) -> None:
    """End an answer: the connection is closed unless the answer was complete."""
    if opened.stream:
        opened.stream.answer.close()


def _for_provider(call: Call) -> bytes:
    """Return the body with the model as the provider calls it. Only here a body is written anew."""
    try:
        body: dict[str, Any] = json.loads(call.body)
        body["model"] = call.model.partition(":")[2]
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The request's body cannot be passed on: {error}.", code="invalid_json") from error


def _unanswered(provider: RouteNode, failure: NodeFailure) -> RouterError:
    if isinstance(failure, AnswerTimeout):
        return UpstreamTimeout(f"{provider.name} was silent for too long.", retry_after_s=RETRY_S)
    return UpstreamError(f"{provider.name} could not be asked: {type(failure).__name__}.", retry_after_s=RETRY_S)


def _refusal(call: Call, provider: RouteNode, opened: Opened) -> RouterError:
    """Return a provider's error as its own words, unless it is about our key or itself."""
    if opened.status == 401:
        return UpstreamError(f"{provider.name} refuses the key that is configured for it.")
    if opened.status == 404 and call.path == RESPONSES_PATH:
        return UnknownUrl(f"{provider.name} does not have {call.path}.")
    if opened.status < 400 or opened.status >= 500:
        return UpstreamError(f"{provider.name} answered {opened.status}.", retry_after_s=RETRY_S)
    return _passed(passed_error(opened.status, opened.body), passed.retry_after(opened.headers))


def _passed(error: PassedError, retry_after: bytes | None) -> PassedError:
    if retry_after:
        error.headers["retry-after"] = retry_after.decode("latin-1")
    return error
