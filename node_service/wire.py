"""What the control API sends, checked on arrival; fields we do not know are ignored."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_serializer

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0, le=2**50)]
# As the control plane has it; a test holds them against each other.
MODEL_ID = r"[A-Za-z0-9](?:\.?[A-Za-z0-9_:+-])*(?:/[A-Za-z0-9_](?:\.?[A-Za-z0-9_:+-])*)*"
MODEL_ID_CHARS = 128
ModelId = Annotated[str, Field(max_length=MODEL_ID_CHARS, pattern=f"^{MODEL_ID}$")]
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_GENERATION = 2**31 - 2


class WireModel(BaseModel):
    """Base of all wire shapes."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Artifact(WireModel):
    """One file of a model. `name` is only a name: the store decides where the bytes lie."""

    name: str = Field(min_length=1)
    size: Size
    sha256: Sha256


class ModelSpec(WireModel):
    """One assignment: this model shall be on this node."""

    id: ModelId
    generation: int = Field(default=1, ge=0, le=_MAX_GENERATION)
    residency: Literal["resident", "on_demand"] = "resident"
    engine: str | None = None
    # Read by the engine: a wrong value is that model's fault, and must not cost the others their manifest.
    params: dict[str, Any] = {}
    artifacts: tuple[Artifact, ...] = Field(min_length=1, max_length=1000)
    required_memory_bytes: int = Field(default=0, ge=0, le=2**62)

    @property
    def gpu_uuids(self) -> tuple[str, ...]:
        """The GPUs that the model shall use; none means all."""
        named = self.params.get("gpu_uuids")
        return tuple(str(uuid) for uuid in named) if isinstance(named, list | tuple) else ()

    @property
    def memory_bytes(self) -> int:
        """What the model needs to run, as the control plane computed it; at least its weights."""
        return max(self.required_memory_bytes, self.size_bytes)

    @property
    def resident(self) -> bool:
        """Whether the model is to be loaded as soon as it is here, and to stay so."""
        return self.residency == "resident"

    @property
    def size_bytes(self) -> int:
        """Bytes of all artifacts together."""
        return sum(artifact.size for artifact in self.artifacts)

    def same_work(self, other: "ModelSpec") -> bool:
        """Whether `other` asks for the same files, run the same way."""
        return self == other.model_copy(update={"generation": self.generation})


class RefusedModel(WireModel):
    """An assignment that this version does not understand. `sent` is kept, for a later one that may."""

    id: str
    generation: int
    reason: str
    sent: Any

    def report(self) -> dict[str, Any]:
        """Return the model's entry in a heartbeat."""
        return {"id": self.id, "generation": self.generation, "state": "failed", "error": self.reason}

    @model_serializer
    def _as_sent(self) -> Any:
        return self.sent


def _understood(sent: Any) -> Any:
    """Read one assignment by itself: what is wrong with it is told of it, and costs no other model anything."""
    if isinstance(sent, ModelSpec | RefusedModel):
        return sent
    try:
        return ModelSpec.model_validate(sent)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        reason = f"the manifest's {'.'.join(map(str, first['loc'])) or 'entry'} is not understood: {first['msg']}"
    fields = sent if isinstance(sent, dict) else {}
    named, generation = fields.get("id"), fields.get("generation", 1)
    known = isinstance(named, str) and len(named) <= MODEL_ID_CHARS and re.fullmatch(MODEL_ID, named)
    counts = isinstance(generation, int) and 0 <= generation <= _MAX_GENERATION
    # Reported under its id, or shown as a problem of the node where it has none.
    return RefusedModel(id=named if known else "", generation=generation if counts else 0, reason=reason[:500], sent=sent)


Assignment = Annotated[ModelSpec | RefusedModel, BeforeValidator(_understood)]


class Manifest(WireModel):
    """All assignments of this node. `refused` are those that are not understood."""

    store_id: str
    revision: int
    admission: Literal["pending", "open", "drained"] = "open"
    memory_reserve_bytes: int = Field(default=0, ge=0)
    assignments: tuple[Assignment, ...] = Field(default=(), alias="models")
    remove: tuple[Sha256, ...] = ()

    @field_validator("remove", mode="before")
    @classmethod
    def _digests(cls, sent: Any) -> Any:
        # Nothing here has another name, so nothing stays that should go.
        return [each for each in sent if isinstance(each, str) and _SHA256.fullmatch(each)] if isinstance(sent, list) else sent

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """What is to be here."""
        return tuple(each for each in self.assignments if isinstance(each, ModelSpec))

    @property
    def refused(self) -> tuple[RefusedModel, ...]:
        """What is to be here, and is not understood."""
        return tuple(each for each in self.assignments if isinstance(each, RefusedModel))


class Registration(WireModel):
    """The answer to `POST /v0/nodes/register`."""

    node_id: str
    node_token: str
    store_id: str
    state: str
    heartbeat_interval_s: float = Field(default=5, gt=0)
    manifest_revision: int


class HeartbeatAnswer(WireModel):
    """The answer to `POST /v0/nodes/{id}/heartbeat`."""

    state: str
    admission: Literal["pending", "open", "drained"]
    manifest_revision: int
    next_token: str | None = None


class PeerSource(WireModel):
    """Another node that holds the artifact."""

    kind: Literal["peer"]
    node_id: str
    url: str
    ticket: str


class HubSource(WireModel):
    """A file in a hub repository, at a pinned commit. ``endpoint``: the control plane's hub, unless the node has its own."""

    kind: Literal["hub"]
    endpoint: str | None = None
    repo: str
    revision: str
    path: str


class PassThroughSource(WireModel):
    """A path of the control API that streams the file from the hub."""

    kind: Literal["pass_through"]
    url: str


Source = Annotated[PeerSource | HubSource | PassThroughSource, Field(discriminator="kind")]


class FetchGrant(WireModel):
    """Leave to fetch one artifact from these sources, in this order."""

    fetch_id: str
    lease_s: float = 60
    sources: tuple[Source, ...]


class FetchQueued(WireModel):
    """Not our turn yet."""

    retry_after_s: float = Field(ge=0)
    position: int | None = None
