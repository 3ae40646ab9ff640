"""Reads the few facts of a GGUF header that decide how a model is run."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from node_service.errors import EngineUnavailable

__all__ = ["GgufFacts", "read_gguf"]

_MAX_ENTRIES = 100_000
_MAX_BYTES = 64 * 2**20  # a tokenizer's vocabulary is in the header; nothing larger is
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class GgufFacts:
    """What a model's file says about itself; None where it says nothing."""

    architecture: str | None
    context_length: int | None
    pooling_type: int | None
    key_length: int | None


def read_gguf(path: Path) -> GgufFacts:
    """Read the header of a model file.

    Raises:
        EngineUnavailable: the file is not GGUF, or its header makes no sense.
    """
    try:
        with path.open("rb") as file:
            values = _Reader(file).scalars()
    except (OSError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise EngineUnavailable(f"{path.name}: not a usable GGUF file: {error}") from error
    architecture = values.get("general.architecture")
    return GgufFacts(
        architecture=architecture,
        context_length=values.get(f"{architecture}.context_length"),
        pooling_type=values.get(f"{architecture}.pooling_type"),
        key_length=_key_length(values, architecture),
    )


def _key_length(values: dict[str, Any], architecture: str | None) -> int | None:
    """Return the elements of one attention head's key: said, or an even share of the embedding."""
    said = values.get(f"{architecture}.attention.key_length")
    width, heads = values.get(f"{architecture}.embedding_length"), values.get(f"{architecture}.attention.head_count")
    if isinstance(said, int):
        return said
    return width // heads if isinstance(width, int) and isinstance(heads, int) and heads > 0 else None


class _Reader:
    """Walks over the key-value section, skipping arrays and never trusting a length."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def scalars(self) -> dict[str, Any]:
        if self._bytes(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version = self._number("I")
        if version not in (2, 3):
            raise ValueError(f"version {version}")
        self._number("Q")  # number of tensors
        count = self._number("Q")
        if count > _MAX_ENTRIES:
            raise ValueError(f"{count} entries")
        values = ((self._string(), self._value(self._number("I"))) for _ in range(count))
        return {key: value for key, value in values if value is not None}

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._skip_array()
        if kind not in _SCALARS:
            raise ValueError(f"type {kind}")
        return self._number(_SCALARS[kind])

    def _skip_array(self) -> None:
        kind, count = self._number("I"), self._number("Q")
        if kind == _STRING:
            for _ in range(count):
                self._bytes(self._number("Q"))
        elif kind in _SCALARS:
            self._bytes(count * struct.calcsize(_SCALARS[kind]))
        else:
            raise ValueError(f"array of type {kind}")

    def _string(self) -> str:
        return self._bytes(self._number("Q")).decode("utf-8")

    def _number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self._bytes(struct.calcsize(form)))[0]

    def _bytes(self, count: int) -> bytes:
        if count > _MAX_BYTES:
            raise ValueError(f"a value of {count} bytes")
        data = self._file.read(count)
        if len(data) < count:
            raise ValueError("it ends within its header")
        return data
