"""Engines' error answers, told in OpenAI's words."""

import json
from dataclasses import dataclass

from node_service.errors import BadRequest, EngineCrashed, ModelLoading, ModelNotFound, NodeBusy, ServiceError

__all__ = ["engine_error"]

_MESSAGE_LIMIT = 1000  # characters


class ContextLengthExceeded(BadRequest):
    """The prompt is longer than the context."""

    code = "context_length_exceeded"


class NotSupported(BadRequest):
    """The model does not do what was asked."""

    code = "not_supported"


class EngineFault(ServiceError):
    """The engine reported a fault of its own."""

    code = "engine_error"


def engine_error(status: int, content: bytes) -> ServiceError:
    """Return the error for an engine's answer with a status of 400 or more."""
    error = _read(content)
    message = error.message or f"the engine answered {status}"
    if error.is_about_context:
        return ContextLengthExceeded(message, param="messages")
    if status == 404 and "model" in error.message.lower():
        return ModelNotFound(f"the engine does not have the model any more: {message}", param="model")
    if status in (404, 501):
        return NotSupported(f"this model does not do that: {message}")
    if status == 429 or (status == 503 and not error.is_about_loading):
        return NodeBusy(message)
    if status == 503:
        return ModelLoading(message)
    if status in (401, 403):
        # Our key to the engine is wrong: another process took its port, or its owner changed it.
        return EngineCrashed("the engine does not know us any more")
    return EngineFault(message) if status >= 500 else BadRequest(message)


@dataclass(frozen=True)
class _EngineError:
    """What an engine wrote: llama.cpp, vLLM, Ollama and llama-cpp-python each in their own way."""

    kind: str = ""
    code: str = ""
    message: str = ""

    @property
    def is_about_context(self) -> bool:
        named = "exceed_context_size_error" in (self.kind, self.code) or self.code == ContextLengthExceeded.code
        return named or "maximum context length" in self.message

    @property
    def is_about_loading(self) -> bool:
        return "loading" in self.message.lower()


def _read(content: bytes) -> _EngineError:
    try:
        error = json.loads(content)["error"]
        message = str(error["message"])[:_MESSAGE_LIMIT]
        return _EngineError(str(error.get("type")), str(error.get("code")), message)
    except (ValueError, KeyError, TypeError, AttributeError):
        return _EngineError(message=content[:_MESSAGE_LIMIT].decode("utf-8", "replace"))
