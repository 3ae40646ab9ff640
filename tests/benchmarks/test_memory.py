"""The memory that a model is computed to need is what llama.cpp takes, with and without sliding windows."""

from pathlib import Path

import pytest

from benchmarks.memory import compare
from tests.tiny_gguf import TinyModel, write_tiny_gguf


@pytest.mark.parametrize("window", [None, 256])
def test_the_cache_is_llama_cpps_to_the_byte_and_the_rest_is_near(tmp_path: Path, window: int | None) -> None:
    model = TinyModel(mode="random", context=2048, layers=8, embedding=128, window=window)

    row = compare(write_tiny_gguf(tmp_path / "tiny.gguf", model), 2048, 2, tmp_path)

    assert row["cache_mib"] == row["cache_taken_mib"] > 0
    assert row["compute_mib"] == pytest.approx(row["compute_taken_mib"], rel=0.15)
    assert row["process_mib"] < row["needed_mib"]
