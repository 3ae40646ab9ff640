"""Engines that the node's own file defines. A manifest can name them, and cannot describe them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from node_service.fields import HttpUrl

__all__ = ["BUILT_IN", "CommandDefinition", "EngineDefinition", "ExternalDefinition", "fill"]

# Engines that need no definition, and the library that each of them needs.
BUILT_IN = {"xllamacpp": "xllamacpp", "llama-cpp-python": "llama_cpp"}

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_KEY = "api_key"
# What a command may be told. The key itself is not for arguments, which every user of the machine can read.
_PLACES = frozenset(
    {
        *("model_path", "model_id", "port", "api_key_file", "context", "total_context", "slots"),
        *("threads", "gpu_layers", "flash_attention", "kv_cache_type"),
    }
)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return a text with `{name}` replaced where `values` has the name; other braces stay."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), template)


def _check_places(text: str, allowed: frozenset[str]) -> str:
    if unknown := set(_PLACEHOLDER.findall(text)) - allowed:
        named = ", ".join(f"{{{name}}}" for name in sorted(unknown))
        raise ValueError(f"{named} cannot stand here; what can: {', '.join(sorted(allowed))}")
    return text


class _Definition(BaseModel):
    """What all definitions share. `device` is what the engine computes on: the node cannot see it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["cuda", "cpu"]


class CommandDefinition(_Definition):
    """A program that serves one model by the OpenAI API; the node starts one for each model."""

    kind: Literal["command"]
    argv: tuple[str, ...] = Field(min_length=1)
    environment: dict[str, str] = {}
    health_path: str = Field(default="/health", pattern=r"^/[^\s?#]*$")
    start_timeout_s: float = Field(default=1800, gt=0)

    @field_validator("argv")
    @classmethod
    def _arguments(cls, argv: tuple[str, ...]) -> tuple[str, ...]:
        arguments = tuple(_check_places(argument, _PLACES) for argument in argv)
        if not any("{port}" in argument for argument in arguments):
            raise ValueError("must hold {port}: the node chooses where the program listens")
        return arguments

    @field_validator("environment")
    @classmethod
    def _variables(cls, environment: dict[str, str]) -> dict[str, str]:
        return {name: _check_places(value, _PLACES | {_KEY}) for name, value in environment.items()}

    @property
    def places(self) -> frozenset[str]:
        """The placeholders that are used."""
        texts = (*self.argv, *self.environment.values())
        return frozenset(name for text in texts for name in _PLACEHOLDER.findall(text))


class ExternalDefinition(_Definition):
    """An OpenAI server that runs on this host anyway, and keeps its weights itself.

    `models` gives the names that the server has for our models, where they differ.
    """

    kind: Literal["external"]
    base_url: HttpUrl
    api_key_file: Path | None = None
    models: dict[str, str] = {}
    slots: int = Field(default=4, ge=1, le=4096)

    @field_validator("base_url")
    @classmethod
    def _root(cls, base_url: str) -> str:
        return base_url.removesuffix("/v1")


EngineDefinition = Annotated[CommandDefinition | ExternalDefinition, Field(discriminator="kind")]
