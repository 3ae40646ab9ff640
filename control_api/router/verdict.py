"""What a node's answer means for the router: the table of design section 7 as code. Pure."""

from enum import Enum

from pydantic import BaseModel, ValidationError

from control_api.router.errors import PassedError

BUSY_CODES = frozenset({"node_busy", "node_draining", "model_loading"})


class Verdict(Enum):
    """What to do about an answer."""

    PASS = "pass on"
    BUSY = "ask another node or wait"
    SKIP = "leave the node out until the next table"
    CRASHED = "ask one further node"
    FAILED = "ask up to two further nodes"


class _Error(BaseModel):
    message: str = ""
    type: str | None = None
    param: str | None = None
    code: str | None = None


class _ErrorBody(BaseModel):
    error: _Error


def error_code(body: bytes) -> str | None:
    """Return the ``error.code`` of an answer in OpenAI's shape, ``None`` if it has none."""
    try:
        return _ErrorBody.model_validate_json(body).error.code
    except ValidationError:
        return None


def judge(status: int, body: bytes) -> Verdict:
    """Return what an answer means.

    Parameters
    ----------
    status: the HTTP status.
    body: the whole body; only read where the status alone does not tell.
    """
    if 200 <= status < 300:
        return Verdict.PASS
    if status in (401, 403) or status < 400:
        return Verdict.SKIP
    if status == 404:
        return Verdict.SKIP if error_code(body) == "model_not_found" else Verdict.PASS
    if status < 500:
        return Verdict.PASS
    if status == 503 and error_code(body) in BUSY_CODES:
        return Verdict.BUSY
    if status == 502 and error_code(body) == "engine_crashed":
        return Verdict.CRASHED
    return Verdict.FAILED


def passed_error(status: int, body: bytes) -> PassedError:
    """Return a node's whole answer as an error, for a stream that can carry nothing else."""
    try:
        error = _ErrorBody.model_validate_json(body).error
    except ValidationError:
        error = _Error(message=f"The node answered {status} without a stream.")
    return PassedError(error.message, status=status, type_=error.type, param=error.param, code=error.code)
