"""How a model is to be run, as the manifest says it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from node_service.errors import EngineUnavailable
from node_service.wire import WireModel

__all__ = ["UNQUANTISED", "FlashAttention", "KvCacheType", "ModelParams", "read_params"]

FlashAttention = Literal["auto", "on", "off"]
# The types that llama.cpp has kernels for (`--cache-type-k` of its server).
KvCacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]

UNQUANTISED = frozenset({"f32", "f16", "bf16"})


class ModelParams(WireModel):
    """What is None is decided by the node.

    Parameters:
        context: tokens of context for each request.
        slots: requests answered at the same time.
        threads: CPU threads.
        gpu_layers: layers to put on the GPU; None: as many as fit.
        kv_cache_type: of both keys and values.
        gpu_uuids: the only GPUs to use; empty for all.
    """

    context: int | None = Field(default=None, ge=1, le=2**24)
    slots: int | None = Field(default=None, ge=1, le=256)
    threads: int | None = Field(default=None, ge=1, le=1024)
    gpu_layers: int | None = Field(default=None, ge=0, le=1000)
    flash_attention: FlashAttention | None = None
    kv_cache_type: KvCacheType | None = None
    gpu_uuids: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")], ...] = ()
    embedding: bool = False

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.flash_attention == "off" and self.kv_cache_type not in (None, *UNQUANTISED):
            raise ValueError(f"kv_cache_type: {self.kv_cache_type} needs flash attention, and flash_attention is off")
        return self

    @property
    def given(self) -> dict[str, Any]:
        """The parameters that somebody chose."""
        return {name: getattr(self, name) for name in self.model_fields_set if getattr(self, name) not in (None, ())}


def read_params(raw: Mapping[str, Any]) -> ModelParams:
    """Check a manifest's parameters of one model.

    Raises:
        EngineUnavailable: a value is wrong; names the parameter.
    """
    try:
        return ModelParams.model_validate(raw)
    except ValidationError as error:
        raise EngineUnavailable("; ".join(_describe(problem) for problem in error.errors())) from error


def _describe(problem: Any) -> str:
    where = ".".join(["params", *(str(part) for part in problem["loc"])])
    text = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {text}; given {problem['input']!r}"[:300]
