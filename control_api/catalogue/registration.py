"""From what a caller named to a model that can be stored: asks the hub, touches no store."""

from dataclasses import dataclass, replace
from typing import Any

import structlog

from control_api.catalogue.gguf import BadHeader, NotGguf
from control_api.catalogue.hub import Hub, HubFile, HubRepo
from control_api.catalogue.memory import KV_TYPE, Shape, memory_by_size, memory_of, shape_of
from control_api.catalogue.models import Artifact, Model
from control_api.catalogue.options import EngineOptions
from control_api.catalogue.schemas import MemoryNeed, RegisterModelRequest, SupportedModel
from control_api.catalogue.sources import (
    Source,
    check_gguf,
    choices,
    derived_id,
    not_gguf,
    only_choice,
    parse_source,
    parts_of,
    quantization_of,
)
from control_api.catalogue.supported import CONTEXT, SLOTS, SupportedModels
from control_api.errors import BadAnswer, BadInput, NotFound, Unavailable
from control_api.fleet.served import is_cloud_id
from control_api.kit.wire import MAX_SIZE_BYTES

log = structlog.get_logger()

_EMBEDDING_PIPELINES = frozenset({"feature-extraction", "sentence-similarity"})
# Paths of this API that a model id must not shadow.
_RESERVED_IDS = frozenset({"hub", "available", "register", "distribute"})


@dataclass(frozen=True)
class Running:
    """How the caller wants the model to be run; what is None is as usual. ``needs``: tags of nodes."""

    context: int | None
    slots: int | None
    options: EngineOptions
    needs: tuple[str, ...]

    @classmethod
    def of(cls, request: RegisterModelRequest) -> "Running":
        """Return what a request says of it."""
        return cls(request.context, request.slots, request, tuple(sorted(set(request.needs))))


@dataclass(frozen=True)
class Wanted:
    """What a request asks for, before the hub was asked. ``model_id`` is None while it depends on the hub's files."""

    source: Source
    model_id: str | None
    entry: SupportedModel | None
    capabilities: list[str] | None
    running: Running


def read_request(request: RegisterModelRequest, supported: SupportedModels, *, hub_host: str) -> Wanted:
    """Understand a request. Raises ``NotFound`` for an unknown catalogue id and ``BadInput`` for a source that cannot be."""
    if request.source is None:
        return _from_catalogue(request, supported)
    found = parse_source(request.source, hub_host=hub_host)
    source = replace(found, revision=request.revision or found.revision)
    model_id = request.id or (derived_id(source.repo, source.path) if source.path else None)
    capabilities: list[str] | None = [*request.capabilities] if request.capabilities else None
    return Wanted(source, _usable_id(model_id), None, capabilities, Running.of(request))


def _from_catalogue(request: RegisterModelRequest, supported: SupportedModels) -> Wanted:
    """Find the entry of an id, which may end in the quantization that is wanted instead of the recommended one."""
    model_id = request.model or ""
    entry, source = supported.get(model_id), None
    if entry:
        source = Source(entry.repo, entry.recommended_filename, entry.revision)
    else:
        base, _, quantization = model_id.rpartition(":")
        if entry := supported.get(base):
            source = Source(entry.repo, None, entry.revision, quantization)
    if not entry or not source:
        known = ", ".join(e.id for e in supported.all)
        raise NotFound(f"The catalogue has no model {model_id!r}.", code="unknown_model", hint=f"It has: {known}.")
    return Wanted(source, model_id, entry, list(entry.capabilities), Running.of(request))


def _usable_id(model_id: str | None) -> str | None:
    if model_id in _RESERVED_IDS:
        raise BadInput(f"{model_id!r} cannot be the id of a model.", code="bad_model_id", hint="Use family:variant.")
    if model_id and is_cloud_id(model_id):
        provider = model_id.partition(":")[0]
        message = f"{model_id!r} cannot be the id of a model: {provider}: stands for the models of a cloud provider."
        raise BadInput(message, code="bad_model_id", hint="Give it another one with `id`.")
    return model_id


async def resolve(wanted: Wanted, hub: Hub) -> tuple[Model, list[Artifact]]:
    """Ask the hub and return the rows to store, pinned to a commit.

    Raises ``NotFound`` naming hub, repository and file, ``BadInput`` for files that cannot be used, ``Unavailable``, and
    ``BadAnswer`` for what no hub can mean.
    """
    repo, source = await hub.repo(wanted.source), wanted.source
    path = source.path or only_choice(repo.files, repo=source.repo, quantization=source.quantization)
    check_gguf(path, repo=source.repo, paths=repo.files)
    parts = [_file(repo, source, part, hub) for part in parts_of(path)]
    if (size_bytes := sum(part.size_bytes for part in parts)) > MAX_SIZE_BYTES:
        message = f"{hub.host} says that {path} of {source.repo} has {size_bytes} bytes in {len(parts)} files: no model has."
        raise BadAnswer(message, code="hub_answer")
    # All keys of a split model are in its first part.
    shape = await _shape(hub, source.repo, repo, parts[0].path)
    model = _model(wanted, repo, parts, shape)
    return model, [_artifact(model.id, position, file) for position, file in enumerate(parts)]


async def _shape(hub: Hub, name: str, repo: HubRepo, path: str) -> Shape | str:
    """Return the shape of a model, or why its header does not tell: a model whose memory is only estimated can still run.

    Raises ``BadInput`` for a file of another kind, which no engine can run.
    """
    try:
        header = await hub.files.header(name, repo.commit, path)
        return shape_of(header.values, vocabulary=header.lengths.get("tokenizer.ggml.tokens", 0))
    except NotGguf as error:
        raise not_gguf(path, str(error), repo=name, paths=repo.files) from error
    except (BadHeader, Unavailable, BadAnswer) as error:
        log.warning("model.header_unreadable", repo=name, path=path, reason=str(error))
        return str(error)


def _file(repo: HubRepo, source: Source, path: str, hub: Hub) -> HubFile:
    file = repo.files.get(path)
    if file is None:
        raise NotFound(
            f"{source.repo} on {hub.host} has no file {path!r}.",
            code="hub_not_found",
            hint=f"Of GGUF files, {choices(source.repo, repo.files)}",
        )
    if not file.sha256 or not file.size_bytes:
        what = "gives no SHA-256 for" if file.size_bytes else "holds an empty"
        raise BadInput(f"{hub.host} {what} {path} of {source.repo}, so it cannot be verified.", code="hub_not_verifiable")
    return file


def _artifact(model_id: str, position: int, file: HubFile) -> Artifact:
    name = file.path.rpartition("/")[2]
    return Artifact(
        model_id=model_id, position=position, path=file.path, name=name, size=file.size_bytes, sha256=file.sha256 or ""
    )


def _model(wanted: Wanted, repo: HubRepo, parts: list[HubFile], shape: Shape | str) -> Model:
    size_bytes = sum(file.size_bytes for file in parts)
    entry = wanted.entry or _entry(wanted, repo, parts[0].path)
    capabilities = wanted.capabilities or entry.capabilities
    memory = _memory(wanted.running, entry, shape, size_bytes)
    params: dict[str, Any] = {"context": memory.context, "slots": memory.slots, "embedding": "embeddings" in capabilities}
    facts = entry.model_dump(include={"name", "description", "tags", "parameter_count", "format"})
    return Model(
        id=wanted.model_id or entry.id,
        **facts,
        repo=wanted.source.repo,
        revision=repo.commit,
        size_bytes=size_bytes,
        required_memory_bytes=memory.total_bytes,
        memory=memory.model_dump(),
        capabilities=capabilities,
        quantization=quantization_of(parts[0].path)[:32] or entry.quantization,
        engine=wanted.running.options.engine or "",
        params=wanted.running.options.params(params),
        needs=list(wanted.running.needs),
    )


def _memory(running: Running, entry: SupportedModel, shape: Shape | str, size_bytes: int) -> MemoryNeed:
    trained = entry.context_length if isinstance(shape, str) else shape.context_length
    context = min(running.context or CONTEXT, trained or running.context or CONTEXT)
    slots, kv_type = running.slots or SLOTS, running.options.kv_cache_type or KV_TYPE
    if isinstance(shape, str):
        return memory_by_size(size_bytes, context=context, slots=slots, kv_type=kv_type, note=shape)
    need = memory_of(shape, size_bytes, context=context, slots=slots, kv_type=kv_type)
    if need.total_bytes <= MAX_SIZE_BYTES:
        return need
    # Each figure may be, but all together they are of no model.
    note = f"its header's figures come to {need.total_bytes} bytes"
    return memory_by_size(size_bytes, context=context, slots=slots, kv_type=kv_type, note=note)


def _entry(wanted: Wanted, repo: HubRepo, path: str) -> SupportedModel:
    model_id = _usable_id(wanted.model_id or derived_id(wanted.source.repo, path))
    capabilities = ["embeddings"] if repo.pipeline in _EMBEDDING_PIPELINES else ["chat", "completions"]
    return SupportedModel(
        id=model_id or "",
        name=wanted.source.repo.partition("/")[2],
        description=f"Registered from {wanted.source.repo}.",
        repo=wanted.source.repo,
        recommended_filename=path,
        size_bytes=0,
        required_memory_bytes=0,
        tags=[],
        capabilities=capabilities,
        quantization="",
        parameter_count="",
        format="gguf",
        engine="xllamacpp",
        platforms=[],
    )
