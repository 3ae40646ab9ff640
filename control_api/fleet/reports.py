"""What nodes send. Everything has a type and a bound: it is stored, served to others, and decides where models go.

Of a heartbeat each entry of a list counts by itself. One that cannot be understood is left out and said to be so as an error of
its node, so that one bad model takes nothing else of the node away. What a node says of itself is refused as a whole, by field.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge, Le, MaxLen
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    FiniteFloat,
    HttpUrl,
    ModelWrapValidatorHandler,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from control_api.fleet.served import is_cloud_id
from control_api.fleet.states import ModelState
from control_api.kit.wire import Counter, IdStr, Instant, LineStr, ModelIdStr, NameStr, Out, Sha256Str, SizeBytes, TagStr


def _storable(value: Any) -> Any:
    """Replace what no database takes: NUL, and halves of characters."""
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _short(url: HttpUrl) -> HttpUrl:
    if len(str(url)) > 512:
        raise ValueError("must have at most 512 characters")
    return url


Tags = Annotated[list[TagStr], MaxLen(32)]
Count = Annotated[int, Ge(0), Le(1 << 62)]
Figure = Annotated[FiniteFloat, Ge(-1e6), Le(1e6)]
Text = Annotated[str, BeforeValidator(_storable), StringConstraints(max_length=4096)]
Label = Annotated[str, BeforeValidator(_storable), StringConstraints(max_length=128)]
VersionStr = Annotated[LineStr, MaxLen(64)]


def _of_nodes(model_id: str) -> str:
    if is_cloud_id(model_id):
        raise ValueError("begins with the name of a cloud provider, and no node has such models")
    return model_id


class Gpu(Out):
    """A GPU as NVML describes it."""

    index: Annotated[int, Ge(0), Le(1024)]
    uuid: Label = ""
    name: Label = ""
    memory_total: Count = 0
    driver: Annotated[Label, MaxLen(64)] = ""
    compute_capability: Annotated[Label, MaxLen(16)] = ""


class Cpu(Out):
    """A machine's processors."""

    model: Annotated[Text, MaxLen(256)] = ""
    cores: Annotated[int, Ge(0), Le(1 << 16)] = 0


class Hardware(Out):
    """What a machine has."""

    gpus: Annotated[list[Gpu], MaxLen(64)] = []
    cpu: Cpu = Cpu()
    memory_total: Count = 0
    disk_total: Count = 0
    disk_free: Count = 0
    platform: Annotated[Label, MaxLen(64)] = ""


class Disk(Out):
    """The disk that holds a node's models, in bytes."""

    total: Count = 0
    free: Count = 0


class RegisterRequest(Out):
    """``POST /v0/nodes/register``. Unknown fields are ignored: a newer node may say more."""

    name: NameStr
    base_url: Annotated[HttpUrl, AfterValidator(_short)]
    version: VersionStr
    instance_id: IdStr
    inference_key: Annotated[str, StringConstraints(min_length=32, max_length=256, pattern=r"^[A-Za-z0-9_-]+$")]
    hardware: Hardware
    tags: Tags = []


class ReadyModels(Out):
    """How many of the resident models of the applied manifest are loaded."""

    loaded: Annotated[int, Ge(0), Le(100_000)] = 0
    total: Annotated[int, Ge(0), Le(100_000)] = 0


class ModelReport(Out):
    """One model in a heartbeat."""

    id: Annotated[ModelIdStr, AfterValidator(_of_nodes)]
    generation: Counter = 0
    state: ModelState
    bytes_done: SizeBytes = 0
    bytes_total: SizeBytes = 0
    speed_bps: SizeBytes = 0
    error: Text | None = None
    sha256: Sha256Str | None = None
    size: SizeBytes | None = None
    held: Annotated[list[Sha256Str], MaxLen(1000)] = Field(default=[], description="Digests of its files that are there.")
    source: Annotated[Text, MaxLen(512)] | None = None
    installed_at: Instant | None = None
    slots: Annotated[int, Ge(0), Le(4096)] = 0
    in_flight: Annotated[int, Ge(0), Le(1_000_000)] = 0
    device: Annotated[str, StringConstraints(max_length=8, pattern=r"^[a-z][a-z0-9_-]*$")] | None = None
    gpu_layers: Annotated[int, Ge(-1), Le(100_000)] | None = None


class GpuMetrics(Out):
    """A GPU's load in a heartbeat. Memory in bytes, utilisation in percent, temperature in °C."""

    index: Annotated[int, Ge(0), Le(1024)]
    name: Label = ""
    memory_total: Count = 0
    memory_used: Count = 0
    utilization: Figure | None = None
    temperature: Figure | None = None
    power_w: Figure | None = None


class NodeError(Out):
    """One thing that a node says is wrong with itself; ``at``: when it began."""

    code: Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z][a-z0-9_]*$")]
    message: Text
    at: Instant


class Heartbeat(Out):
    """``POST /v0/nodes/{id}/heartbeat``. An entry of a list that is not valid is left out, and said to be so."""

    instance_id: IdStr
    seq: Counter
    applied_revision: Counter = 0
    initializing: bool = False
    ready_models: ReadyModels = ReadyModels()
    models: Annotated[list[ModelReport], MaxLen(1000)] = []
    gpus: Annotated[list[GpuMetrics], MaxLen(64)] = []
    disk: Disk | None = None
    version: VersionStr = "unknown"
    errors: Annotated[list[NodeError], MaxLen(32)] = []
    fetches: Annotated[list[IdStr], MaxLen(64)] = Field(default=[], description="Download grants still in use; renewed.")

    _refused: tuple[str, ...] = PrivateAttr(default=())

    @property
    def refused(self) -> tuple[str, ...]:
        """Which entries were left out, and why."""
        return self._refused

    @model_validator(mode="wrap")
    @classmethod
    def _each_by_itself(cls, sent: Any, handler: ModelWrapValidatorHandler["Heartbeat"]) -> "Heartbeat":
        if not isinstance(sent, dict):
            return handler(sent)
        kept, refused = dict(sent), list[str]()
        for name, (kind, most) in _LISTS.items():
            entries = sent.get(name)
            # One that is too long is refused as a whole, without a look at what is in it.
            if isinstance(entries, list) and len(entries) <= most:
                kept[name], wrong = _valid(kind, name, entries)
                refused += wrong
        beat = handler(kept)
        beat._refused = tuple(refused)
        return beat


_LISTS: dict[str, tuple[type[BaseModel], int]] = {
    "models": (ModelReport, 1000),
    "gpus": (GpuMetrics, 64),
    "errors": (NodeError, 32),
}


def _valid(kind: type[BaseModel], name: str, entries: Sequence[Any]) -> tuple[list[BaseModel], list[str]]:
    """Return the entries of a list that are valid, and what is wrong with the others. No two models have the same id."""
    kept: dict[Any, BaseModel] = {}
    refused = []
    for place, entry in enumerate(entries):
        try:
            read = kind.model_validate(entry)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            field = ".".join([name, str(place), *map(str, first["loc"])])
            refused.append(f"{field}: {first['msg']}")
            continue
        key = read.id if isinstance(read, ModelReport) else place
        if key in kept:
            refused.append(f"{name}.{place}: {key} is there twice")
        kept.setdefault(key, read)
    return list(kept.values()), refused
