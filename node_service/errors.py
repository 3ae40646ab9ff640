"""The node's error tree.

NodeError
├── ConfigError                  the configuration cannot be used
├── ControlError                 talking to the control API
│   ├── ControlUnreachable       no answer; try again
│   ├── EnrolmentRequired        the API does not know this node or its token
│   └── ControlRefused           the API answered with another error
├── ManifestRefused              a manifest of another store, or one that makes no sense
├── WeightsError                 an artifact cannot be brought here
│   ├── SourceInterrupted        the source broke off; trying again may help
│   ├── SourceRefused            the source will not give the artifact
│   ├── CorruptArtifact          the bytes do not have the sha256 of the manifest
│   ├── InsufficientDisk         not enough room, found before the first byte
│   ├── ArtifactBusy             another process holds the artifact
│   └── NoSourceLeft             every source was tried
├── EngineError                  a model's child process
│   ├── EngineUnavailable        the engine is not installed or not usable here
│   └── EngineStartFailed        the child ended before it was ready
└── ServiceError                 rendered to the caller in OpenAI's error shape
"""


class NodeError(Exception):
    """Base of everything this service raises on purpose; `code` is stable."""

    code = "node_error"


class ConfigError(NodeError):
    """The configuration cannot be used; `problems` lists one line for each reason."""

    code = "invalid_config"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class ControlError(NodeError):
    """Talking to the control API failed."""

    code = "control_error"


class ControlUnreachable(ControlError):
    """The control API gave no usable answer; trying again may help."""

    code = "control_unreachable"


class EnrolmentRequired(ControlError):
    """The control API does not know this node, or not its token or ticket."""

    code = "enrolment_required"


class ControlRefused(ControlError):
    """The control API answered with an error."""

    code = "control_refused"


class ManifestRefused(NodeError):
    """The manifest is not for this node."""

    code = "manifest_refused"


class WeightsError(NodeError):
    """An artifact cannot be brought here."""

    code = "weights_error"


class SourceInterrupted(WeightsError):
    """A source broke off; trying again may help."""

    code = "source_interrupted"


class SourceRefused(WeightsError):
    """A source will not give the artifact."""

    code = "source_refused"


class CorruptArtifact(WeightsError):
    """The bytes do not have the sha256 of the manifest."""

    code = "artifact_corrupt"


class InsufficientDisk(WeightsError):
    """There is not enough room on the disk."""

    code = "insufficient_disk"


class ArtifactBusy(WeightsError):
    """Another process holds the artifact."""

    code = "artifact_busy"


class NoSourceLeft(WeightsError):
    """Every source was tried; `transient` says whether trying again later may help."""

    code = "no_source_left"

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class EngineError(NodeError):
    """A model's engine cannot be used."""

    code = "engine_error"


class EngineUnavailable(EngineError):
    """The engine is not installed, or cannot run this file here."""

    code = "engine_unavailable"


class EngineStartFailed(EngineError):
    """The engine ended before it was ready."""

    code = "engine_start_failed"


class ServiceError(NodeError):
    """An answer to the caller: HTTP status, OpenAI error type and our stable code.

    Parameters:
        message: what went wrong, for a person.
        param: the request field it is about.
    """

    status = 500
    type = "server_error"
    code = "internal_error"
    retry_after_s: int | None = None

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param

    def body(self) -> dict[str, object]:
        """Return the answer's body in OpenAI's error shape."""
        return openai_error(str(self), type=self.type, code=self.code, param=self.param)

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to this error."""
        return {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}


class InvalidKey(ServiceError):
    """No key, or a wrong one."""

    status, type, code = 401, "invalid_request_error", "invalid_api_key"

    def headers(self) -> dict[str, str]:
        """Return the challenge."""
        return {"www-authenticate": "Bearer"}


class BadRequest(ServiceError):
    """The request makes no sense."""

    status, type, code = 400, "invalid_request_error", "invalid_request"


class RequestTooLarge(ServiceError):
    """The body is larger than we take."""

    status, type, code = 413, "invalid_request_error", "request_too_large"


class ModelNotFound(ServiceError):
    """No such model on this node."""

    status, type, code = 404, "invalid_request_error", "model_not_found"


class ArtifactNotFound(ServiceError):
    """No such artifact on this node."""

    status, type, code = 404, "invalid_request_error", "artifact_not_found"


class ModelLoading(ServiceError):
    """The model is on its way."""

    status, code, retry_after_s = 503, "model_loading", 5

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message, param=param)
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class ModelFailed(ServiceError):
    """The model cannot be served here."""

    status, code = 503, "model_failed"


class NodeBusy(ServiceError):
    """All slots of the model are taken."""

    status, code, retry_after_s = 503, "node_busy", 1


class NodeDraining(ServiceError):
    """The node takes no new work."""

    status, code, retry_after_s = 503, "node_draining", 5


class EngineCrashed(ServiceError):
    """The engine ended during the request."""

    status, code = 502, "engine_crashed"


def openai_error(message: str, *, type: str, code: str | None, param: str | None = None) -> dict[str, object]:
    """Return an error body as OpenAI's clients expect it."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}
