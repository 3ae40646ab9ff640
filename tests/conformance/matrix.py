"""What is tried: client × operation × fault, and what must come of it."""

from dataclasses import dataclass
from typing import Any

from tests.conformance.engine import TEXT

OPERATIONS = {
    "chat": "POST /v1/chat/completions",
    "chat_stream": "POST /v1/chat/completions, streamed",
    "completion": "POST /v1/completions",
    "completion_stream": "POST /v1/completions, streamed",
    "embedding": "POST /v1/embeddings",
    "response": "POST /v1/responses",
    "response_stream": "POST /v1/responses, streamed",
    "model_shown": "GET /v1/models/{id}",
    "models": "GET /v1/models",
    "headers": "the headers of an answer",
}
ANSWERS: dict[str, Any] = {
    "embedding": [0.25, -0.5],
    "headers": {"content-type": "application/json", "x-muster-attempts": "1"},
}


@dataclass(frozen=True)
class Fault:
    """Something that is wrong, in words, and the error that the client gets; without a code it gets its answer."""

    name: str
    words: str
    status: int | None = None
    code: str | None = None

    def expected(self, operation: str, model: str) -> dict[str, Any]:
        """Return the outcome, but for what the client calls its error."""
        if self.code is None:
            answers = {"model_shown": model, "models": [model], **ANSWERS}
            return {"answer": answers.get(operation, TEXT)}
        if self.name == "breaks":
            return {"status": None, "code": self.code, "partial": "Hel"}
        return {"status": self.status, "code": self.code}


FAULTS = (
    Fault("fine", "nothing is wrong"),
    Fault("resets", "the node resets the connection"),
    Fault("garbles", "the node answers with something that is no HTTP"),
    Fault("halves", "the node dies in the middle of its answer, before anything was passed on"),
    Fault("crashes", "the node's engine crashes"),
    Fault("busy", "the node has no free slot"),
    Fault("silent", "the node goes silent"),
    Fault("breaks", "the node dies in the middle of a stream", None, "upstream_error"),
    Fault("dead", "every node fails", 502, "upstream_error"),
    Fault("overflow", "the prompt is too long for the model", 400, "context_length_exceeded"),
    Fault("loading", "the model is still on its way", 503, "model_loading"),
    Fault("unknown", "nobody registered the model", 404, "model_not_found"),
    Fault("bad_key", "the key is not known", 401, "invalid_api_key"),
    Fault("not_allowed", "the key may not use the model", 403, "permission_denied"),
    Fault("spent", "the key has used up its tokens of this minute", 429, "rate_limit_exceeded"),
)
# The node's part of the story; the rest is told from the route table.
AT_NODES = frozenset({"resets", "garbles", "halves", "crashes", "busy", "silent", "breaks", "dead", "overflow"})
FOR_CHATS = frozenset({"garbles", "halves", "crashes", "busy", "silent"})
TABLE_ONLY = frozenset({"fine", "loading", "unknown", "bad_key", "not_allowed"})


def applies(fault: Fault, operation: str) -> bool:
    """Tell whether a fault can happen to an operation. Nodes fail in many ways for chats, and in one for the others."""
    if operation == "headers":
        return fault.name == "fine"
    if operation == "models":
        return fault.name in ("fine", "bad_key")
    if operation == "model_shown":
        return fault.name in TABLE_ONLY
    if fault.name == "breaks":
        return operation.endswith("_stream")
    return fault.name not in FOR_CHATS or operation.startswith("chat")


@dataclass(frozen=True)
class Case:
    """One call of one client."""

    client: str
    operation: str
    fault: Fault

    @property
    def id(self) -> str:
        return f"{self.client}/{self.operation}/{self.fault.name}"

    @property
    def model(self) -> str:
        """The model that is asked for; each case has its own, so that what one does to its nodes disturbs no other."""
        return "fine:model" if self.fault.name == "fine" else f"{self.fault.name}:{self.client}.{self.operation}"


def cases_of(client: str, operations: tuple[str, ...]) -> list[Case]:
    """Return all cases of a client."""
    return [Case(client, operation, fault) for operation in operations for fault in FAULTS if applies(fault, operation)]
