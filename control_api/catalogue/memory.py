"""How much memory a model needs, from its shape. The one place that answers it; pure.

The sums are those of llama.cpp: ``llama_kv_cache`` for the cache, and ``llama_kv_cache_iswa`` for layers that look back only
over a window. ``python -m benchmarks.memory`` compares them with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from control_api.catalogue.gguf import BadHeader
from control_api.catalogue.options import KvCacheType
from control_api.catalogue.schemas import MemoryNeed

# CUDA context and libraries on a GPU; in RAM Python, libraries and the engine's prompt cache, which the node limits to this.
_ENGINE_BYTES = 512 << 20
KV_TYPE: KvCacheType = "f16"
# Bytes of 32 values, which ggml's quantised types keep in one block with its scale.
_KV_BLOCK_BYTES: dict[KvCacheType, int] = {
    **{"f32": 128, "f16": 64, "bf16": 64, "q8_0": 34},
    **{"q5_1": 24, "q5_0": 22, "q4_1": 20, "q4_0": 18, "iq4_nl": 18},
}
_BATCH_TOKENS = 512
_CELLS_STEP = 256
_FLOAT_BYTES = 4
_MAX_FIGURE = 1 << 31
# Every how many layers one sees the whole context, for architectures whose files leave it to llama.cpp.
_PERIODS = {"gpt-oss": 2, "gemma2": 2, "cohere2": 4, "gemma3n": 5, "gemma3": 6}


@dataclass(frozen=True)
class Shape:
    """What of a model decides its memory beside its weights. Lengths in values, not bytes."""

    kv_heads: tuple[int, ...]
    head_size: int
    windowed: tuple[bool, ...]
    window: int
    windowed_head_size: int
    embedding: int
    feed_forward: int
    vocabulary: int
    has_cache: bool
    context_length: int | None


def shape_of(values: Mapping[str, Any], *, vocabulary: int = 0) -> Shape:
    """Read a model's shape from the keys of its GGUF header.

    Parameters
    ----------
    values: the header's keys, of which most begin with the architecture.
    vocabulary: how many tokens its tokenizer has, for headers without ``vocab_size``.

    Raises ``BadHeader`` if a figure that is needed is missing or makes no sense.
    """
    facts = _Facts(values)
    layers, embedding = facts.number("block_count"), facts.number("embedding_length")
    heads = facts.largest("attention.head_count")
    default = embedding // heads
    key, value = facts.number("attention.key_length", default), facts.number("attention.value_length", default)
    key_windowed = facts.number("attention.key_length_swa", key)
    value_windowed = facts.number("attention.value_length_swa", value)
    window = facts.number("attention.sliding_window", 0)
    return Shape(
        kv_heads=facts.each("attention.head_count_kv", layers, heads),
        head_size=key + value,
        windowed=facts.windowed(layers) if window else (False,) * layers,
        window=window,
        windowed_head_size=key_windowed + value_windowed,
        embedding=embedding,
        feed_forward=_feed_forward(facts, embedding),
        vocabulary=facts.number("vocab_size", vocabulary),
        has_cache=facts.get("attention.causal") is not False,
        context_length=facts.number("context_length", 0) or None,
    )


def memory_of(shape: Shape, weights_bytes: int, *, context: int, slots: int, kv_type: KvCacheType = KV_TYPE) -> MemoryNeed:
    """Return what a model needs to answer ``slots`` requests at once, each with ``context`` tokens."""
    values = _kv_cache_values(shape, context, slots) if shape.has_cache else 0
    return MemoryNeed(
        weights_bytes=weights_bytes,
        kv_cache_bytes=values * _KV_BLOCK_BYTES[kv_type] // 32,
        compute_bytes=_compute_bytes(shape, context, slots),
        engine_bytes=_ENGINE_BYTES,
        context=context,
        slots=slots,
        kv_type=kv_type,
        basis="header",
    )


def memory_by_size(weights_bytes: int, *, context: int, slots: int, kv_type: KvCacheType, note: str) -> MemoryNeed:
    """Estimate what a model needs whose header is not known: a fifth of the weights for the cache. ``note``: why."""
    return MemoryNeed(
        weights_bytes=weights_bytes,
        kv_cache_bytes=weights_bytes // 5,
        compute_bytes=0,
        engine_bytes=_ENGINE_BYTES,
        context=context,
        slots=slots,
        kv_type=kv_type,
        basis="size",
        note=note[:512],
    )


def with_cache_type(need: MemoryNeed, kv_type: KvCacheType) -> MemoryNeed:
    """Return what a model needs when its cache holds values of another type; an estimate by size knows no types."""
    before = _KV_BLOCK_BYTES[need.kv_type] if need.basis == "header" else 1
    after = _KV_BLOCK_BYTES[kv_type] if need.basis == "header" else 1
    return need.model_copy(update={"kv_cache_bytes": need.kv_cache_bytes * after // before, "kv_type": kv_type})


def _windowed_cells(shape: Shape, context: int) -> int:
    return min(_padded(context), _padded(shape.window + _BATCH_TOKENS)) if any(shape.windowed) else 0


def _kv_cache_values(shape: Shape, context: int, slots: int) -> int:
    cells, windowed_cells = _padded(context), _windowed_cells(shape, context)
    values = 0
    for heads, windowed in zip(shape.kv_heads, shape.windowed, strict=True):
        values += heads * (windowed_cells * shape.windowed_head_size if windowed else cells * shape.head_size)
    return values * slots


def _compute_bytes(shape: Shape, context: int, slots: int) -> int:
    """Return the size of llama.cpp's compute buffer: one batch between two layers, the masks of its attention, the logits.

    Some six rows of the embedding and three of the feed-forward network live at once; measured, see the module.
    """
    activations = _BATCH_TOKENS * (6 * shape.embedding + 3 * shape.feed_forward) * _FLOAT_BYTES
    masks = _BATCH_TOKENS * (_padded(context) + _windowed_cells(shape, context)) * 2
    return activations + masks + slots * shape.vocabulary * _FLOAT_BYTES


def _padded(cells: int) -> int:
    return -(-cells // _CELLS_STEP) * _CELLS_STEP


def _feed_forward(facts: "_Facts", embedding: int) -> int:
    """Return the width of a token's way through the network: the dense part, or all experts that it takes."""
    experts = facts.number("expert_used_count", 0)
    dense = facts.largest("feed_forward_length", 4 * embedding)
    return max(dense, experts * (facts.number("expert_feed_forward_length", dense) + embedding))


class _Facts:
    """Keys of one architecture, checked: a file may say anything."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._architecture = values.get("general.architecture")
        if not isinstance(self._architecture, str) or not self._architecture.isprintable():
            raise BadHeader("it names no architecture")

    def get(self, key: str) -> Any:
        return self._values.get(f"{self._architecture}.{key}")

    def number(self, key: str, default: int | None = None) -> int:
        value = self.get(key)
        if value is None and default is not None:
            return default
        return self._checked(key, value, least=0 if default == 0 else 1)

    def largest(self, key: str, default: int | None = None) -> int:
        value = self.get(key)
        if not isinstance(value, list):
            return self.number(key, default)
        return max((self._checked(key, v, least=0) for v in value), default=0) or 1

    def each(self, key: str, layers: int, default: int) -> tuple[int, ...]:
        """Return one number for each layer; a file gives one for all, or each."""
        value = self.get(key)
        if isinstance(value, list) and len(value) == layers:
            return tuple(self._checked(key, v, least=0) for v in value)
        if layers > 4096:
            raise BadHeader(f"it announces {layers} layers")
        return (self.number(key, default),) * layers

    def windowed(self, layers: int) -> tuple[bool, ...]:
        """Return which layers look back only over the window; none if the file does not tell, which errs upwards."""
        pattern = self.get("attention.sliding_window_pattern")
        if isinstance(pattern, list) and pattern:
            return tuple(bool(pattern[layer % len(pattern)]) for layer in range(layers))
        period = self.number("attention.sliding_window_pattern", _PERIODS.get(str(self._architecture), 1))
        return tuple(layer % period < period - 1 for layer in range(layers))

    def _checked(self, key: str, value: Any, *, least: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < _MAX_FIGURE:
            raise BadHeader(f"{self._architecture}.{key} is {value!r}"[:200])
        return value
