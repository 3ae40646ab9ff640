"""The paths that nodes answer: read what is needed of the request, pass it on, pass the answer back."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, StrictBool, StrictStr, ValidationError

from control_api.router import cloud, passed, usage
from control_api.router.auth import Caller
from control_api.router.call import Call
from control_api.router.client import Request
from control_api.router.cloud import Cloud
from control_api.router.dispatch import Dispatcher
from control_api.router.errors import InvalidRequest, ModelNotFound, RateLimited, RouterError, UpstreamError
from control_api.router.exchange import Opened, Stream
from control_api.router.keepalive import KeepAlive
from control_api.router.limits import Limits
from control_api.router.record import RecordSink, RequestRecord
from control_api.router.reply import Reply
from control_api.router.settings import RouterSettings
from control_api.router.source import TablePoller
from control_api.router.sse import RESPONSES_PATH
from control_api.router.upstream import AnswerLost, NodeFailure
from control_api.router.verdict import passed_error

PIN_HEADER = b"x-muster-pin-node"
CLIENT_LEFT = 499
# Of each request and each answer, where content is kept.
CONTENT_LIMIT_BYTES = 1 << 20


class _Head(BaseModel):
    """All that is read of a body. Pydantic builds no objects for the rest, and as nodes do it takes the last of equal keys."""

    model: StrictStr
    stream: StrictBool | None = None
    stream_options: Any = None
    previous_response_id: Any = None


class Inference:
    """Answers requests from nodes."""

    def __init__(
        self, poller: TablePoller, dispatcher: Dispatcher, clouds: Cloud, sinks: Sequence[RecordSink], settings: RouterSettings
    ) -> None:
        self._poller = poller
        self._dispatcher = dispatcher
        self._cloud = clouds
        self._sinks = sinks
        self._settings = settings
        self._limits = Limits()

    async def __call__(self, request: Request, caller: Caller, reply: Reply) -> None:
        """Answer one request. Raises a ``RouterError`` for one that cannot be passed on at all."""
        began = time.monotonic()
        call = self._allowed(await self._read(request), caller)
        call.caller_id = caller.id
        self._admit(caller, reply)
        progress = _Progress(call, caller, reply, began, keeps_content=self._settings.history_content)
        try:
            await self._answer(call, reply, progress)
        finally:
            record = progress.record(client_left=request.gone)
            if call.usage:
                self._limits.used(caller, sum(call.usage))
            for sink in self._sinks:
                sink.record(record)

    async def _read(self, request: Request) -> Call:
        body = await request.body(self._settings.body_limit_bytes)
        try:
            head = _Head.model_validate_json(body)
        except ValidationError as error:
            raise _bad_body(error) from None
        provider = self._poller.table.provider_of(head.model)
        if request.path == RESPONSES_PATH and head.previous_response_id is not None and not provider:
            message = "Responses are not kept: send the conversation in 'input' instead."
            raise InvalidRequest(message, code="unsupported_parameter", param="previous_response_id")
        # Who sets the options at all is left with what they are.
        asks = bool(head.stream) and head.stream_options is None and request.path in usage.PATHS
        return Call(
            request_id=request.id,
            path=request.path,
            body=usage.ask_for_usage(body) if asks else body,
            hides_usage=asks,
            content_type=request.headers.get(b"content-type", b"application/json"),
            model=head.model,
            stream=bool(head.stream),
            pin=request.header(PIN_HEADER),
            provider=provider,
        )

    def _allowed(self, call: Call, caller: Caller) -> Call:
        caller.require_model(call.model)
        caller.require_pin(call.pin)
        if not call.provider and not self._poller.table.is_known(call.model):
            raise ModelNotFound(call.model)
        return call

    def _admit(self, caller: Caller, reply: Reply) -> None:
        try:
            reply.common += self._limits.admit(caller)
        except RateLimited as error:
            reply.common += error.told
            raise

    async def _answer(self, call: Call, reply: Reply, progress: "_Progress") -> None:
        try:
            if call.stream:
                await self._answer_stream(call, reply, progress)
            else:
                opened = await self._open(call)
                progress.first_byte()
                self._pass_whole(opened, call, reply, progress)
        except RouterError as error:
            reply.fail(error, call.headers())

    async def _answer_stream(self, call: Call, reply: Reply, progress: "_Progress") -> None:
        failure: NodeFailure | None = None
        async with KeepAlive(reply, interval_s=self._settings.keep_alive_s) as keep_alive:
            opened = await self._open(call, keep_alive.arm)
            try:
                await keep_alive.stop()
                progress.first_byte()
                if opened.stream is None:
                    self._pass_whole(opened, call, reply, progress)
                    return
                reply.begin_stream(call.headers())
                failure = await self._pass_stream(opened.body, opened.stream, call, reply, progress)
            finally:
                self._close(call, opened, failure)
            if failure:
                raise UpstreamError(f"The answer of {call.node.name if call.node else ''} for {call.model} broke off.")
            reply.end_stream()

    async def _open(self, call: Call, on_send: Callable[[], None] = lambda: None) -> Opened:
        if call.provider:
            return await self._cloud.open(call, call.provider, on_send)
        return await self._dispatcher.open(call, on_send)

    def _close(self, call: Call, opened: Opened, failure: NodeFailure | None) -> None:
        if call.provider:
            cloud.close(opened)
        else:
            self._dispatcher.close(opened, failure)

    def _pass_whole(self, opened: Opened, call: Call, reply: Reply, progress: "_Progress") -> None:
        if reply.status is not None:  # comments have fixed the status: what is no stream can only be told as an error
            raise passed_error(opened.status, opened.body)
        if opened.status == 200:
            call.usage = usage.usage_of(opened.body)
        progress.keep(opened.body)
        headers = call.headers()
        if retry_after := passed.retry_after(opened.headers):
            headers += b"retry-after: %b\r\n" % retry_after
        reply.whole(opened.status, opened.body, passed.content_type(opened.headers), headers)

    async def _pass_stream(
        self, first: bytes, stream: Stream, call: Call, reply: Reply, progress: "_Progress"
    ) -> NodeFailure | None:
        """Forward events as they come; return why the rest did not. The end mark tells, for a broken end can look proper."""
        meter, events = usage.UsageMeter(hide=call.hides_usage), first
        failure: NodeFailure = AnswerLost("the stream ended without saying so")
        try:
            while True:
                if events and (shown := meter.watch(events)):
                    progress.keep(shown)
                    await reply.events(shown)
                if not (piece := await stream.answer.chunk()):
                    break
                events = stream.cutter.feed(piece)
        except NodeFailure as error:
            failure = error
        finally:
            call.usage = meter.usage
        return None if stream.cutter.done else failure


def _bad_body(error: ValidationError) -> InvalidRequest:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = str(first["loc"][0]) if first["loc"] else None
    if first["type"] == "missing":
        return InvalidRequest(f"The request must name a {field!r}.", code="missing_required_parameter", param=field)
    if field:
        return InvalidRequest(f"{field!r}: {first['msg']}.", code="invalid_type", param=field)
    return InvalidRequest(f"The request's body must be a JSON object: {first['msg']}.", code="invalid_json")


class _Progress:
    """Times of one request, for its record, and its content if that is kept."""

    def __init__(self, call: Call, caller: Caller, reply: Reply, began: float, *, keeps_content: bool) -> None:
        self._call, self._caller, self._reply, self._began = call, caller, reply, began
        self._first_byte_s: float | None = None
        self._content: bytearray | None = bytearray() if keeps_content else None

    def first_byte(self) -> None:
        """The first data of an answer is here."""
        self._first_byte_s = time.monotonic() - self._began

    def keep(self, content: bytes) -> None:
        """Take a piece of the answer as it was shown; no more than the limit of them is kept."""
        if self._content is not None and len(self._content) < CONTENT_LIMIT_BYTES:
            self._content += content[: CONTENT_LIMIT_BYTES - len(self._content)]

    def record(self, *, client_left: bool) -> RequestRecord:
        """Return the record of the request, which is over."""
        call = self._call
        return RequestRecord(
            request_id=call.request_id,
            caller_id=self._caller.id,
            path=call.path,
            model=call.model,
            stream=call.stream,
            node_id=call.node.id if call.node else None,
            status=CLIENT_LEFT if client_left else self._reply.status or 500,
            error_code=self._reply.error_code,
            attempts=call.attempts,
            queue_s=call.queue_s,
            first_byte_s=self._first_byte_s,
            duration_s=time.monotonic() - self._began,
            prompt_tokens=call.usage.prompt_tokens if call.usage else None,
            completion_tokens=call.usage.completion_tokens if call.usage else None,
            request_content=None if self._content is None else call.body[:CONTENT_LIMIT_BYTES],
            response_content=None if self._content is None else bytes(self._content),
        )
