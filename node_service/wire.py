"""What the control API sends, checked on arrival; fields we do not know are ignored."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class WireModel(BaseModel):
    """Base of all wire shapes."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Artifact(WireModel):
    """One file of a model. `name` is only a name: the store decides where the bytes lie."""

    name: str = Field(min_length=1)
    size: int = Field(ge=0)
    sha256: Sha256


class ModelSpec(WireModel):
    """One assignment: this model shall be on this node."""

    id: str = Field(min_length=1)
    generation: int = 1
    residency: Literal["resident", "on_demand"] = "resident"
    engine: str | None = None
    # Read by the engine: a wrong value is that model's fault, and must not cost the others their manifest.
    params: dict[str, Any] = {}
    artifacts: tuple[Artifact, ...] = Field(min_length=1)
    required_memory_bytes: int = Field(default=0, ge=0)

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


class Manifest(WireModel):
    """All assignments of this node."""

    store_id: str
    revision: int
    admission: Literal["pending", "open", "drained"] = "open"
    memory_reserve_bytes: int = Field(default=0, ge=0)
    models: tuple[ModelSpec, ...] = ()
    remove: tuple[Sha256, ...] = ()


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
