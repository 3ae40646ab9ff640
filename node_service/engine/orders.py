"""What an engine is to be told about a model: the manifest's wishes, the file's facts, this machine's values."""

from pathlib import Path

from node_service.cores import usable_cores
from node_service.engine.definitions import CommandDefinition, EngineDefinition, ExternalDefinition
from node_service.engine.gguf import GgufFacts, read_gguf
from node_service.engine.params import UNQUANTISED, ModelParams, read_params
from node_service.engine.protocol import EngineModel
from node_service.errors import EngineUnavailable
from node_service.settings import Settings
from node_service.wire import ModelSpec

__all__ = ["make_orders"]

_BLOCK = 32  # elements that llama.cpp quantises together
# Admission and limits of requests are the node's business, whatever the engine can be told.
_ALWAYS_TAKEN = frozenset({"context", "slots", "embedding", "gpu_uuids"})
_NO_FACTS = GgufFacts(architecture=None, context_length=None, pooling_type=None, key_length=None)


def make_orders(
    spec: ModelSpec, path: Path | None, engine: str, definition: EngineDefinition | None, settings: Settings
) -> EngineModel:
    """Return the orders for an engine.

    Parameters:
        path: the model's file, or None where the engine has its own.
        engine: its name, for the error.
        definition: None for an engine that comes with the node.

    Raises:
        EngineUnavailable: the file is not GGUF, or a parameter is wrong or not for this engine.
    """
    params = read_params(spec.params)
    _check_taken(params, engine, definition)
    facts = _NO_FACTS if path is None else read_gguf(path)
    _check_cache(params, facts)
    context = params.context or settings.context
    if facts.context_length is not None:
        context = min(context, facts.context_length)
    pooling = facts.pooling_type is not None and facts.pooling_type > 0
    return EngineModel(
        id=spec.id,
        path=path,
        context=context,
        slots=params.slots or settings.slots,
        threads=params.threads or settings.engine_threads or usable_cores(),
        gpu_layers=params.gpu_layers,
        flash_attention=params.flash_attention or "auto",
        kv_cache_type=params.kv_cache_type or "f16",
        embedding=params.embedding or pooling,
        pooling=pooling,
        gpu_uuids=params.gpu_uuids,
        allow_cpu=settings.allow_cpu,
    )


def _check_taken(params: ModelParams, engine: str, definition: EngineDefinition | None) -> None:
    """Refuse a parameter that would be ignored."""
    if definition is None:
        return
    taken = definition.places if isinstance(definition, CommandDefinition) else frozenset[str]()
    ignored = sorted(params.given.keys() - taken - _ALWAYS_TAKEN)
    if not ignored:
        return
    why = "runs its models as it likes" if isinstance(definition, ExternalDefinition) else f"has no {{{ignored[0]}}}"
    raise EngineUnavailable(f"params.{ignored[0]}: engine {engine} {why}; leave the parameter out")


def _check_cache(params: ModelParams, facts: GgufFacts) -> None:
    """Refuse a quantised cache where the model's heads do not divide into blocks: llama.cpp would only end."""
    kind, length = params.kv_cache_type, facts.key_length
    if kind is not None and kind not in UNQUANTISED and length is not None and length % _BLOCK:
        text = f"{kind} works with heads of a multiple of {_BLOCK} elements, and this model's have {length}"
        raise EngineUnavailable(f"params.kv_cache_type: {text}; use f16")
