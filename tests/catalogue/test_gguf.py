"""The header of a GGUF file, read in pieces as they come from the hub, and the shape of the model in it."""

import contextlib
import struct
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_api.catalogue.gguf import BadHeader, GgufHeader, HeaderReader
from control_api.catalogue.memory import memory_of, shape_of
from tests.tiny_gguf import TinyModel, write_tiny_gguf

MIB = 1 << 20


def pieces(content: bytes, size: int) -> Iterable[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def read(content: bytes, size: int = 4096) -> tuple[GgufHeader, int]:
    """Return the header and how many pieces it took."""
    reader = HeaderReader()
    for count, piece in enumerate(pieces(content, size), start=1):
        if reader.feed(piece):
            return reader.header, count
    raise AssertionError("the header never ended")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", TinyModel(layers=3)).read_bytes()


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 24])
def test_the_pieces_may_have_any_size(tiny: bytes, size: int) -> None:
    header, _ = read(tiny, size)

    assert header.values["general.architecture"] == "llama"
    assert header.values["llama.block_count"] == 3
    assert header.lengths["tokenizer.ggml.tokens"] == 265
    assert header == read(tiny)[0]


def test_the_weights_are_not_read(tiny: bytes) -> None:
    _, count = read(tiny, 1024)

    assert count * 1024 < 16 * 1024 < len(tiny)


def test_all_kinds_of_values_are_understood(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "kinds.gguf"), "mixed")
    writer.add_uint8("a", 200)
    writer.add_int64("b", -5)
    writer.add_float64("c", 0.5)
    writer.add_bool("d", True)
    writer.add_array("per_layer", [4, 0, 4])
    writer.add_array("flags", [True, False])
    writer.add_array("texts", ["x" * 5000, "", "ü"])
    writer.add_array("long", list(range(5000)))
    writer.add_string("last", "end")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()

    header, _ = read((tmp_path / "kinds.gguf").read_bytes(), 100)

    found = {key: header.values.get(key) for key in ("a", "b", "c", "d", "per_layer", "flags", "texts", "long", "last")}
    assert found == {
        **{"a": 200, "b": -5, "c": 0.5, "d": True},
        **{"per_layer": [4, 0, 4], "flags": [True, False], "texts": None, "long": None, "last": "end"},
    }
    assert (header.lengths["texts"], header.lengths["long"]) == (3, 5000)


def start(count: int = 1, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, 0, count)


KEY = struct.pack("<Q", 1) + b"k"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04" + bytes(100), "a ZIP archive"),
        (b"\x00\x01\x02\x03" + bytes(100), "begins with b"),
        (start(version=1), "version is 1"),
        (start(count=1 << 40), "announces"),
        (start() + struct.pack("<Q", 1 << 62), "a string of"),
        (start() + KEY + struct.pack("<I", 99), "unknown type 99"),
        (start() + KEY + struct.pack("<IIQ", 9, 9, 1), "unknown type 9"),
        (start() + KEY + struct.pack("<IIQ", 9, 4, 1 << 60), "announces a value"),
        (start() + KEY + struct.pack("<IIQ", 9, 8, 1 << 60), "announces an array"),
        (start() + KEY + struct.pack("<IIQQ", 9, 8, 1, 1 << 61), "announces a value"),
    ],
)
def test_nonsense_is_refused_without_being_believed(content: bytes, said: str) -> None:
    with pytest.raises(BadHeader, match=said):
        HeaderReader().feed(content)


def test_a_header_without_end_is_given_up() -> None:
    reader = HeaderReader()
    reader.feed(start() + KEY + struct.pack("<IIQ", 9, 8, 1 << 20))

    with pytest.raises(BadHeader, match="longer than"):
        for _ in range(100):
            reader.feed(struct.pack("<Q", MIB) + bytes(MIB))


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def many(count: int, value: Callable[[int], bytes]) -> bytes:
    return start(count) + b"".join(text(f"key{number}".encode()) + value(number) for number in range(count))


LONG_TEXTS = many(15, lambda _: struct.pack("<I", 8) + text("ü".encode() * (2 * MIB - 8)))
LONG_LISTS = many(7000, lambda _: struct.pack("<IIQ", 9, 10, 1024) + bytes(range(8)) * 1024)
LONG_KEYS = start(1000) + b"".join(text(b"%05d" % n + b"k" * 60_000) + struct.pack("<IB", 7, 1) for n in range(1000))


@pytest.mark.parametrize("content", [LONG_TEXTS, LONG_LISTS, LONG_KEYS], ids=["texts", "lists", "keys"])
def test_a_header_of_whatever_length_takes_little_memory(content: bytes) -> None:
    whole = memoryview(content)
    tracemalloc.start()
    try:
        reader = HeaderReader()
        with contextlib.suppress(BadHeader):
            any(reader.feed(bytes(whole[at : at + 65_536])) for at in range(0, len(whole), 65_536))
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_texts_that_nobody_needs_are_passed_over() -> None:
    header, _ = read(LONG_TEXTS, 65_536)

    assert header.values == {}
    assert header.lengths["key3"] == 4 * MIB - 16


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(1, 64))
def test_damage_is_an_error_or_another_header_but_never_a_crash(noise: bytes, at: int, size: int) -> None:
    content = bytearray(start(3) + (KEY + struct.pack("<II", 4, 7)) * 3 + bytes(400))
    content[at : at + len(noise)] = noise
    reader = HeaderReader()
    try:
        any(reader.feed(piece) for piece in pieces(bytes(content), size))
    except BadHeader:
        return
    assert all(isinstance(key, str) for key in reader.header.values)


def facts(architecture: str = "llama", **keys: Any) -> dict[str, Any]:
    plain = {"block_count": 4, "embedding_length": 64, "attention.head_count": 4, "feed_forward_length": 128, "vocab_size": 100}
    named = {key.replace("__", "."): value for key, value in keys.items()}
    return {"general.architecture": architecture} | {f"{architecture}.{k}": v for k, v in (plain | named).items()}


def cache_bytes(values: dict[str, Any], context: int = 1024, slots: int = 2) -> int:
    return memory_of(shape_of(values), 1, context=context, slots=slots).kv_cache_bytes


@pytest.mark.parametrize(
    ("values", "heads_cells"),
    [
        # Four layers of four heads; a head has 16 values for keys and 16 for values, of two bytes each.
        (facts(), 4 * 4 * 1024),
        (facts(attention__head_count_kv=2), 4 * 2 * 1024),
        (facts(attention__head_count_kv=[2, 0, 0, 1]), 3 * 1024),
        (facts(attention__head_count_kv=1, attention__key_length=32, attention__value_length=0 + 32), 4 * 2 * 1024),
        # A window that the file tells of, but not in which layers: as if every layer saw everything.
        (facts(attention__head_count_kv=1, attention__sliding_window=100), 4 * 1024),
        # Two of four layers look back over 100 tokens and a batch of 512, which llama.cpp rounds up to 768.
        (facts("gpt-oss", attention__head_count_kv=1, attention__sliding_window=100), 2 * 1024 + 2 * 768),
        (facts("gemma3", attention__head_count_kv=1, attention__sliding_window=100, block_count=6), 1024 + 5 * 768),
        (
            facts(attention__head_count_kv=1, attention__sliding_window=100, attention__sliding_window_pattern=[1, 1, 1, 0]),
            1024 + 3 * 768,
        ),
        (facts(attention__head_count_kv=1, attention__sliding_window=4096, attention__sliding_window_pattern=2), 4 * 1024),
        # Encoders answer without a cache.
        (facts("bert", attention__causal=False), 0),
    ],
)
def test_the_cache_is_the_sum_over_the_layers(values: dict[str, Any], heads_cells: int) -> None:
    assert cache_bytes(values) == heads_cells * (16 + 16) * 2 * 2


def test_llama_cpp_gives_whole_steps_of_256_cells() -> None:
    assert cache_bytes(facts(), context=1000) == cache_bytes(facts(), context=1024) < cache_bytes(facts(), context=1025)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "architecture"),
        ({"general.architecture": 7}, "architecture"),
        ({"general.architecture": "llama"}, "block_count"),
        (facts(block_count=0), "block_count"),
        (facts(block_count=-1), "block_count"),
        (facts(block_count=True), "block_count"),
        (facts(block_count=1 << 30), "layers"),
        (facts(embedding_length="64"), "embedding_length"),
        (facts(embedding_length=1 << 40), "embedding_length"),
        (facts(attention__head_count=0), "head_count"),
        (facts(attention__head_count_kv=[1]), "head_count_kv"),
        (facts(attention__sliding_window=10, attention__sliding_window_pattern=0), "sliding_window_pattern"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(BadHeader, match=named):
        shape_of(values)


def test_smollm2_takes_what_llama_cpp_says() -> None:
    """Figures of llama.cpp's log for SmolLM2 135M with 4 slots of 8192: KV cache 720 MiB, compute buffer 22.64 MiB."""
    keys = {"block_count": 30, "embedding_length": 576, "feed_forward_length": 1536, "attention.head_count": 9}
    values = {f"llama.{k}": v for k, v in (keys | {"attention.head_count_kv": 3, "vocab_size": 49152}).items()}

    need = memory_of(shape_of(values | {"general.architecture": "llama"}), 98_362_432, context=8192, slots=4)

    assert need.kv_cache_bytes == 720 * MIB
    assert need.compute_bytes == pytest.approx(22.64 * MIB, rel=0.15)
