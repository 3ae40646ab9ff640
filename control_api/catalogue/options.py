"""How an engine runs a model: what callers may choose. ``docs/reference/node-engines.md`` says what each does."""

from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le
from pydantic import StringConstraints, model_validator

from control_api.kit.wire import Wire

# The types that llama.cpp has kernels for; quantised ones need flash attention, which is its default where a GPU has it.
KvCacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]

EngineName = Annotated[str, StringConstraints(max_length=32, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

_UNQUANTISED = frozenset({"f32", "f16", "bf16"})


class EngineOptions(Wire):
    """What is null is decided by the node."""

    engine: EngineName | None = None
    threads: Annotated[int, Ge(1), Le(1024)] | None = None
    gpu_layers: Annotated[int, Ge(0), Le(1000)] | None = None
    flash_attention: Literal["auto", "on", "off"] | None = None
    kv_cache_type: KvCacheType | None = None

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.flash_attention == "off" and self.kv_cache_type not in (None, *_UNQUANTISED):
            raise ValueError(f"kv_cache_type {self.kv_cache_type} needs flash attention, and flash_attention is off")
        return self

    def params(self, before: dict[str, Any]) -> dict[str, Any]:
        """Return a model's parameters with what was given here; what was given as null is left out."""
        own = EngineOptions.model_fields.keys() - {"engine"}
        given = {name: getattr(self, name) for name in own & self.model_fields_set}
        return {name: value for name, value in (before | given).items() if value is not None or name not in own}
