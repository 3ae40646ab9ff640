"""Reads the header of a GGUF file while its bytes come in, and no further (format: ``docs/gguf.md`` of ggml)."""

import struct
import sys
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

MAX_HEADER_BYTES = 64 << 20
_MAX_ENTRIES = 65_536
_MAX_KEY_BYTES = 65_535
# A name is kept; of longer texts, which are templates and licences, only the length matters.
_KEPT_TEXT_BYTES = 1024
# One value for each layer is kept; longer arrays are vocabularies, of which only the length matters.
_KEPT_ITEMS = 1024
# All that is kept, as it lies in memory; the headers of real models come to a tenth of it.
_MAX_KEPT_BYTES = 1 << 20
_MAX_TEXTS = 1 << 22
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# What people most often take for GGUF, by its first bytes.
_OTHERS = {
    b"PK\x03\x04": "it is a ZIP archive, as PyTorch writes weights",
    b"lmgg": "it is GGML, the form before GGUF",
    b"tjgg": "it is GGML, the form before GGUF",
    b"vers": "it is a pointer of Git LFS to the file, and not the file",
    b"<!DO": "it is a web page",
    b"<htm": "it is a web page",
}

type _Steps[Result] = Generator[None, None, Result]


class BadHeader(ValueError):
    """The bytes are not a header that can be read."""


class NotGguf(BadHeader):
    """The bytes are those of another kind of file."""


@dataclass
class GgufHeader:
    """What a model's file says of itself: its keys with their values, and the lengths of its arrays and long texts."""

    values: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)


class HeaderReader:
    """Takes a file's bytes in pieces of any size until the header is complete. Trusts no length that the file gives."""

    def __init__(self) -> None:
        self.header = GgufHeader()
        self._buffer = bytearray()
        self._position = 0
        self._fed_bytes = self._kept_bytes = 0
        self._steps = self._parse()

    def feed(self, piece: bytes) -> bool:
        """Take the next bytes of the file and tell whether the header is complete. Raises ``BadHeader``."""
        self._fed_bytes += len(piece)
        if self._fed_bytes > MAX_HEADER_BYTES + len(piece):
            raise BadHeader(f"its header is longer than {MAX_HEADER_BYTES} bytes")
        del self._buffer[: self._position]
        self._position = 0
        self._buffer += piece
        return next(self._steps, self) is self

    def _parse(self) -> _Steps[None]:
        if (magic := (yield from self._take(4))) != b"GGUF":
            raise NotGguf(_OTHERS.get(magic, f"it begins with {magic!r}"))
        version = yield from self._number("I")
        if version not in (2, 3):
            raise BadHeader(f"its version is {version}")
        yield from self._number("Q")  # tensors: the sizes of the files tell their bytes
        count = yield from self._number("Q")
        if count > _MAX_ENTRIES:
            raise BadHeader(f"it announces {count} entries")
        for _ in range(count):
            key = self._kept((yield from self._text((yield from self._number("Q")), _MAX_KEY_BYTES)))
            yield from self._value(key, (yield from self._number("I")))

    def _value(self, key: str, kind: int) -> _Steps[None]:
        if kind == _ARRAY:
            yield from self._array(key)
        elif kind == _STRING:
            yield from self._text_value(key)
        else:
            self.header.values[key] = self._kept((yield from self._number(_form(kind))))

    def _text_value(self, key: str) -> _Steps[None]:
        length = yield from self._number("Q")
        if length > _KEPT_TEXT_BYTES:
            self.header.lengths[key] = length
            yield from self._skip(length)
        else:
            self.header.values[key] = self._kept((yield from self._text(length, _KEPT_TEXT_BYTES)))

    def _array(self, key: str) -> _Steps[None]:
        kind = yield from self._number("I")
        count = yield from self._number("Q")
        self.header.lengths[key] = count
        if kind == _STRING:
            if count > _MAX_TEXTS:
                raise BadHeader(f"it announces an array of {count} strings")
            yield from self._skip_texts(count)
        elif count > _KEPT_ITEMS:
            yield from self._skip(count * struct.calcsize(_form(kind)))
        else:
            items = []
            for _ in range(count):
                items.append(self._kept((yield from self._number(_form(kind)))))
            self.header.values[key] = items

    def _skip_texts(self, count: int) -> _Steps[None]:
        """Pass over strings; a vocabulary has hundreds of thousands, so whole pieces are walked without a step each."""
        while count:
            buffer, position, end = self._buffer, self._position, len(self._buffer)
            while count and end - position >= 8:
                following = position + 8 + int.from_bytes(buffer[position : position + 8], "little")
                if following > end:
                    break
                position, count = following, count - 1
            self._position = position
            if count:
                length = yield from self._number("Q")
                yield from self._skip(length)
                count -= 1

    def _skip(self, count: int) -> _Steps[None]:
        if count > MAX_HEADER_BYTES:
            raise BadHeader(f"it announces a value of {count} bytes")
        while (available := len(self._buffer) - self._position) < count:
            self._position += available
            count -= available
            yield
        self._position += count

    def _text(self, length: int, most: int) -> _Steps[str]:
        if length > most:
            raise BadHeader(f"it announces a string of {length} bytes")
        return (yield from self._take(length)).decode("utf-8", "replace")

    def _kept[Value](self, value: Value) -> Value:
        """Count a value that is kept, with its place."""
        self._kept_bytes += sys.getsizeof(value) + 8
        if self._kept_bytes > _MAX_KEPT_BYTES:
            raise BadHeader(f"its keys and values take more than {_MAX_KEPT_BYTES} bytes")
        return value

    def _number(self, form: str) -> _Steps[Any]:
        return struct.unpack(f"<{form}", (yield from self._take(struct.calcsize(f"<{form}"))))[0]

    def _take(self, count: int) -> _Steps[bytes]:
        while len(self._buffer) - self._position < count:
            yield
        start, self._position = self._position, self._position + count
        return bytes(self._buffer[start : self._position])


def _form(kind: int) -> str:
    if kind not in _SCALARS:
        raise BadHeader(f"it holds a value of the unknown type {kind}")
    return _SCALARS[kind]
