"""Engines' error answers, told in OpenAI's words."""

import json

from node_service.errors import BadRequest, EngineCrashed, ModelLoading, ServiceError

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
    kind, message = _read(content)
    message = message or f"the engine answered {status}"
    if kind == "exceed_context_size_error":
        return ContextLengthExceeded(message, param="messages")
    if status == 501:
        return NotSupported(f"this model does not do that: {message}")
    if status == 503:
        return ModelLoading(message)
    if status == 401:
        # Our key to the engine is wrong: another process took its port.
        return EngineCrashed("the engine is not ours any more")
    if status >= 500:
        return EngineFault(message)
    return BadRequest(message)


def _read(content: bytes) -> tuple[str, str]:
    try:
        error = json.loads(content)["error"]
        return str(error.get("type")), str(error["message"])[:_MESSAGE_LIMIT]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", content[:_MESSAGE_LIMIT].decode("utf-8", "replace")
