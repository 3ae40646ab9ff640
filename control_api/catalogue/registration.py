"""From what a caller named to a model that can be stored: asks the hub, touches no store."""

from dataclasses import dataclass
from typing import Any

from control_api.catalogue.hub import Hub, HubFile, HubRepo
from control_api.catalogue.memory import required_memory_bytes
from control_api.catalogue.models import Artifact, Model, RegisterModelRequest, SupportedModel
from control_api.catalogue.sources import Source, derived_id, only_choice, parse_source, parts_of, quantization_of
from control_api.catalogue.supported import SupportedModels
from control_api.errors import BadInput, NotFound

# Context and slots of a model whose engine nobody configured: long enough for a chat, small enough for the memory estimate.
_CONTEXT = 8192
_SLOTS = 4
_EMBEDDING_PIPELINES = frozenset({"feature-extraction", "sentence-similarity"})
# Paths of this API that a model id must not shadow.
_RESERVED_IDS = frozenset({"hub", "available", "register", "distribute"})


@dataclass(frozen=True)
class Wanted:
    """What a request asks for, before the hub was asked. ``model_id`` is None while it depends on the hub's files."""

    source: Source
    model_id: str | None
    entry: SupportedModel | None
    capabilities: list[str] | None


def read_request(request: RegisterModelRequest, supported: SupportedModels, *, hub_host: str) -> Wanted:
    """Understand a request. Raises ``NotFound`` for an unknown catalogue id and ``BadInput`` for a source that cannot be."""
    if request.source is None:
        entry = supported.get(request.model or "")
        if entry is None:
            known = ", ".join(e.id for e in supported.all)
            raise NotFound(f"The catalogue has no model {request.model!r}.", code="unknown_model", hint=f"It has: {known}.")
        return Wanted(Source(entry.repo, entry.recommended_filename, entry.revision), entry.id, entry, list(entry.capabilities))
    found = parse_source(request.source, hub_host=hub_host)
    source = Source(found.repo, found.path, request.revision or found.revision)
    model_id = request.id or (derived_id(source.repo, source.path) if source.path else None)
    return Wanted(source, _usable_id(model_id), None, list(request.capabilities) if request.capabilities else None)


def _usable_id(model_id: str | None) -> str | None:
    if model_id in _RESERVED_IDS:
        raise BadInput(f"{model_id!r} cannot be the id of a model.", code="bad_model_id", hint="Use family:variant.")
    return model_id


async def resolve(wanted: Wanted, hub: Hub) -> tuple[Model, list[Artifact]]:
    """Ask the hub and return the rows to store, pinned to a commit.

    Raises ``NotFound`` naming hub, repository and file, ``BadInput`` for files that cannot be used, ``Unavailable``.
    """
    repo = await hub.repo(wanted.source)
    path = wanted.source.path or only_choice(repo.files, repo=wanted.source.repo)
    files = [_file(repo, wanted.source, part, hub) for part in parts_of(path)]
    model = _model(wanted, repo, path, files)
    return model, [_artifact(model.id, position, file) for position, file in enumerate(files)]


def _file(repo: HubRepo, source: Source, path: str, hub: Hub) -> HubFile:
    file = repo.files.get(path)
    if file is None:
        models = [p for p in sorted(repo.files) if p.endswith(".gguf")][:20]
        raise NotFound(
            f"{source.repo} on {hub.host} has no file {path!r}.",
            code="hub_not_found",
            hint=f"It has: {', '.join(models)}." if models else "It has no GGUF file.",
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


def _model(wanted: Wanted, repo: HubRepo, path: str, files: list[HubFile]) -> Model:
    size_bytes = sum(file.size_bytes for file in files)
    entry = wanted.entry
    if entry is None:
        entry = _entry(wanted, repo, path, size_bytes)
    capabilities = wanted.capabilities or entry.capabilities
    return Model(
        id=entry.id,
        name=entry.name,
        description=entry.description,
        repo=wanted.source.repo,
        revision=repo.commit,
        size_bytes=size_bytes,
        required_memory_bytes=entry.required_memory_bytes,
        capabilities=capabilities,
        tags=entry.tags,
        quantization=entry.quantization,
        parameter_count=entry.parameter_count,
        format=entry.format,
        engine=entry.engine,
        params=_params(capabilities, entry.context_length),
    )


def _entry(wanted: Wanted, repo: HubRepo, path: str, size_bytes: int) -> SupportedModel:
    model_id = _usable_id(wanted.model_id or derived_id(wanted.source.repo, path))
    capabilities = ["embeddings"] if repo.pipeline in _EMBEDDING_PIPELINES else ["chat", "completions"]
    return SupportedModel(
        id=model_id or "",
        name=wanted.source.repo.partition("/")[2],
        description=f"Registered from {wanted.source.repo}.",
        repo=wanted.source.repo,
        recommended_filename=path,
        size_bytes=size_bytes,
        required_memory_bytes=required_memory_bytes(size_bytes),
        tags=[],
        capabilities=capabilities,
        quantization=quantization_of(path)[:32],
        parameter_count="",
        format="gguf",
        engine="xllamacpp",
        platforms=[],
    )


def _params(capabilities: list[str], context_length: int | None) -> dict[str, Any]:
    context = min(_CONTEXT, context_length or _CONTEXT)
    return {"context": context, "slots": _SLOTS, "embedding": "embeddings" in capabilities}
