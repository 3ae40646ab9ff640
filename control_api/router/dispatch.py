"""Brings a call to a node that answers it: chooses, sends, judges, and tries the next one while nothing was answered."""

from collections.abc import Callable

from control_api.router.balance import Balancer, Lease
from control_api.router.breaker import Cause
from control_api.router.call import Call
from control_api.router.errors import NotReady, RouterError, UnknownUrl, UpstreamError, UpstreamTimeout
from control_api.router.exchange import Opened, exchange, headers_of
from control_api.router.guard import CrashGuard, RetryBudget
from control_api.router.readiness import why_not_ready
from control_api.router.source import TablePoller
from control_api.router.sse import RESPONSES_PATH
from control_api.router.upstream import (
    AnswerTimeout,
    AnswerTooLarge,
    NodeFailure,
    Unreachable,
    Upstream,
    UpstreamRequest,
)
from control_api.router.verdict import Verdict, error_code, judge
from control_api.router.waiting import Ticket, WaitingRoom

# Nodes that may fail a call after they got it: the first and two further ones; one further after a crashed engine.
LOST_LIMIT = 3
CRASHED_LIMIT = 2


class Refused(NodeFailure):
    """A node answered, but with nothing that may be passed on."""

    def __init__(self, verdict: Verdict, status: int, code: str | None) -> None:
        super().__init__(f"answered {status}" + (f" ({code})" if code and code.isidentifier() else ""))
        self.verdict = verdict


class Dispatcher:
    """Sends calls to nodes."""

    def __init__(
        self, poller: TablePoller, balancer: Balancer, room: WaitingRoom, upstream: Upstream, *, limit_bytes: int
    ) -> None:
        self._poller = poller
        self._balancer = balancer
        self._room = room
        self._upstream = upstream
        self._limit_bytes = limit_bytes
        self._budget = RetryBudget()
        self._guard = CrashGuard()

    async def open(self, call: Call, on_send: Callable[[], None]) -> Opened:
        """Return the first answer that may be passed on. The caller closes it.

        Parameters
        ----------
        on_send: called each time before the call goes to a node.

        Raises a ``RouterError`` when nobody can answer.
        """
        self._guard.check(call.body)
        self._budget.earn()
        ticket = self._room.ticket(call.model, call.excluded, call.caller_id)
        while True:
            lease = await self._lease(call, ticket)
            call.node, call.attempts = lease.node, call.attempts + 1
            on_send()
            opened = None
            try:
                opened = await self._exchange(call, lease)
                self._balancer.answered(lease)
                return opened
            except NodeFailure as failure:
                self._digest(call, lease, failure)
            finally:
                if opened is None or opened.stream is None:
                    self._room.leave(lease)

    def close(self, opened: Opened, failure: NodeFailure | None = None) -> None:
        """End an answer: the connection to the node is closed unless the answer was complete, the slot is free.

        Parameters
        ----------
        failure: why the rest of a stream did not come.
        """
        if opened.stream and opened.lease:
            opened.stream.answer.close()
            if failure:
                self._balancer.broke(opened.lease)
            elif opened.stream.cutter.done:
                self._balancer.completed(opened.lease)
            self._room.leave(opened.lease)

    async def _lease(self, call: Call, ticket: Ticket) -> Lease:
        if call.pin is not None:
            return self._pinned(call.pin, call.model)
        try:
            lease = await self._room.enter(ticket)
        finally:
            call.queue_s, call.queue_position = ticket.waited_s, ticket.position
        if lease is None:
            recovery_s = self._balancer.recovery_s(call.model)
            raise call.cause or why_not_ready(self._poller.table, call.model, recovery_s)
        return lease

    def _pinned(self, node_id: str, model: str) -> Lease:
        node = self._poller.table.nodes.get(node_id)
        if node is None:
            raise NotReady(f"There is no node {node_id}.", code="no_ready_node", retry_after_s=1)
        if not any(target.node_id == node_id for target in self._poller.table.models.get(model, ())):
            raise NotReady(f"Node {node.name} was not given {model}.", code="no_ready_node", retry_after_s=1)
        return self._balancer.lease(node, model)

    async def _exchange(self, call: Call, lease: Lease) -> Opened:
        opened = await exchange(self._upstream, _request(call, lease), call, limit_bytes=self._limit_bytes)
        if opened.stream:
            return opened._replace(lease=lease)
        verdict = judge(opened.status, opened.body)
        if verdict is not Verdict.PASS:
            raise Refused(verdict, opened.status, error_code(opened.body))
        if opened.status == 404 and call.path == RESPONSES_PATH:
            raise UnknownUrl(f"The engine of {call.model} does not have {call.path}.")
        return opened

    def _digest(self, call: Call, lease: Lease, failure: NodeFailure) -> None:
        """Remember what a failure says about the node. Raises the failure in our words if the call may go no further."""
        told = _in_our_words(lease, failure)
        verdict = failure.verdict if isinstance(failure, Refused) else Verdict.FAILED
        if verdict is Verdict.BUSY:
            self._balancer.answered(lease)
            self._balancer.busy(lease)
        else:
            call.excluded.add(lease.node.id)
            call.cause = told
        if verdict is Verdict.SKIP:
            self._balancer.skip(lease)
        elif verdict is Verdict.CRASHED:
            call.crashed += 1
            self._guard.crashed(call.body)
        elif verdict is Verdict.FAILED and not isinstance(failure, AnswerTooLarge):
            cause = _cause(failure)
            self._balancer.failed(lease, cause)
            call.lost += cause is not Cause.UNREACHABLE
        hopeless = isinstance(failure, AnswerTooLarge) or call.lost >= LOST_LIMIT or call.crashed >= CRASHED_LIMIT
        if call.pin is not None or hopeless:
            raise told from failure
        if verdict in (Verdict.FAILED, Verdict.CRASHED) and not isinstance(failure, Unreachable) and not self._budget.spend():
            raise UpstreamError(f"{told.message} Too many requests fail for it to be sent again.", retry_after_s=1) from failure


def _request(call: Call, lease: Lease) -> UpstreamRequest:
    headers = headers_of(call)
    if call.pin is not None:
        # So that a drained node lets the canary in.
        headers += b"x-muster-pin-node: %b\r\n" % lease.node.id.encode()
    return UpstreamRequest(lease.node, call.path, headers, call.body)


def _cause(failure: NodeFailure) -> Cause:
    match failure:
        case Unreachable():
            return Cause.UNREACHABLE
        case AnswerTimeout():
            return Cause.SILENT
        case Refused():
            return Cause.ERROR
        case _:
            return Cause.LOST


def _in_our_words(lease: Lease, failure: NodeFailure) -> RouterError:
    name, model = lease.node.name, lease.model
    match failure:
        case Refused(verdict=Verdict.BUSY):
            return NotReady(f"Node {name} takes no request for {model} now.", code="no_ready_node", retry_after_s=1)
        case Refused():
            return UpstreamError(f"No node could answer for {model}; the last one, {name}, {failure}.")
        case Unreachable():
            return UpstreamError(f"No node could answer for {model}; the last one, {name}, could not be reached.")
        case AnswerTimeout():
            return UpstreamTimeout(f"No node could answer for {model}; the last one, {name}, was silent for too long.")
        case AnswerTooLarge():
            return UpstreamError(f"The answer of node {name} was too large: {failure}.")
        case _:
            return UpstreamError(f"No node could answer for {model}; the connection to the last one, {name}, broke.")
