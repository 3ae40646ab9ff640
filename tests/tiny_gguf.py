"""Makes tiny models that llama.cpp really loads and runs.

`python -m tests.tiny_gguf OUT.gguf [--mode cycle] [--layers 2] [--pooling]`

The tokenizer knows every byte, so any text can be given. Two modes:

* `cycle`: every answer is `abcdef…zabc…` up to `max_tokens`, at any temperature, because the
  layers add nothing and the output maps each letter to its successor: exact text can be asserted.
* `random`: printable nonsense, never an end token: deterministic length.

More layers make a slower model without a larger file: about 300 of them at `embedding=32`
give a few hundred tokens per second on one core.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gguf
import numpy as np

__all__ = ["TinyModel", "write_tiny_gguf"]

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' "
    "+ message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_HEADS, _KV_HEADS = 4, 2
_MERGES = ["t h", "th e", "i n", "a n", "e r", "Ġ t"]
_LETTERS = range(ord("a"), ord("z") + 1)
_END_OF_TEXT, _BEGIN, _END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

type Matrix = np.ndarray[tuple[int, int], np.dtype[np.float32]]


@dataclass(frozen=True)
class TinyModel:
    """What the model is to be like."""

    mode: Literal["cycle", "random"] = "cycle"
    seed: int = 1234
    context: int = 2048
    layers: int = 2
    embedding: int = 64
    pooling: bool = False
    # Three of four layers look back only so far; only with mode `random`, for such models have no output layer of their own.
    window: int | None = None


def write_tiny_gguf(path: Path, model: TinyModel = TinyModel()) -> Path:
    """Write a model file and return its path."""
    tokens = _tokens()
    writer = gguf.GGUFWriter(str(path), "cohere2" if model.window else "llama")
    _write_shape(writer, model, len(tokens))
    _write_tokenizer(writer, tokens)
    if model.pooling:
        writer.add_pooling_type(gguf.PoolingType.MEAN)
    _write_weights(writer, model, len(tokens))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tokens() -> list[str]:
    """One token for each byte, written as byte-level BPE does, then the merged and special ones."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    names = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}
    merged = [merge.replace(" ", "") for merge in _MERGES]
    return [names[byte] for byte in range(256)] + merged + [_END_OF_TEXT, _BEGIN, _END]


def _write_shape(writer: gguf.GGUFWriter, model: TinyModel, vocabulary: int) -> None:
    writer.add_name(f"tiny-{model.mode}")
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(vocabulary)
    writer.add_context_length(model.context)
    writer.add_embedding_length(model.embedding)
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(model.embedding * 2)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KV_HEADS)
    writer.add_rope_dimension_count(model.embedding // _HEADS)
    writer.add_rope_freq_base(10000.0)
    if model.window:
        writer.add_layer_norm_eps(1e-5)
        writer.add_logit_scale(1.0)
        writer.add_sliding_window(model.window)
    else:
        writer.add_layer_norm_rms_eps(1e-5)


def _write_tokenizer(writer: gguf.GGUFWriter, tokens: list[str]) -> None:
    special = (_END_OF_TEXT, _BEGIN, _END)
    types = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(_MERGES)
    writer.add_bos_token_id(tokens.index(_BEGIN))
    writer.add_eos_token_id(tokens.index(_END))
    writer.add_pad_token_id(tokens.index(_END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _write_weights(writer: gguf.GGUFWriter, model: TinyModel, vocabulary: int) -> None:
    random = np.random.default_rng(model.seed)
    width, scale = model.embedding, 1 / np.sqrt(model.embedding)

    def matrix(rows: int, columns: int, deviation: float) -> Matrix:
        return (random.standard_normal((rows, columns)) * deviation).astype(np.float32)

    embedding = matrix(vocabulary, width, 1.0)
    embedding *= np.sqrt(width) / np.linalg.norm(embedding, axis=1, keepdims=True)
    output = np.zeros((vocabulary, width), np.float32)
    if model.mode == "random":
        output[32:127] = matrix(95, width, 6 * scale)
        gain = 1.0
    else:
        _make_cycle(embedding, output)
        gain = 0.0  # the layers add nothing
    writer.add_tensor("token_embd.weight", embedding.astype(np.float32))
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    if not model.window:
        writer.add_tensor("output.weight", output)
    key_width = width // _HEADS * _KV_HEADS
    for layer in range(model.layers):
        prefix = f"blk.{layer}."
        for norm in ("attn_norm",) if model.window else ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{prefix}{norm}.weight", np.ones(width, np.float32))
        writer.add_tensor(f"{prefix}attn_q.weight", matrix(width, width, scale))
        writer.add_tensor(f"{prefix}attn_k.weight", matrix(key_width, width, scale))
        writer.add_tensor(f"{prefix}attn_v.weight", matrix(key_width, width, scale))
        writer.add_tensor(f"{prefix}attn_output.weight", matrix(width, width, scale * gain))
        writer.add_tensor(f"{prefix}ffn_gate.weight", matrix(width * 2, width, scale))
        writer.add_tensor(f"{prefix}ffn_up.weight", matrix(width * 2, width, scale))
        writer.add_tensor(f"{prefix}ffn_down.weight", matrix(width, width * 2, scale * gain))


def _make_cycle(embedding: Matrix, output: Matrix) -> None:
    """Let each letter's output be its successor, and that of anything else `a`.

    The last dimension says "not a letter"; the letters live in the others.
    """
    width = embedding.shape[1]
    embedding[:, -1] = 0
    for token in range(len(embedding)):
        if token in _LETTERS:
            embedding[token] *= np.sqrt(width) / np.linalg.norm(embedding[token])
        else:
            embedding[token] *= 0.05
            embedding[token, -1] = np.sqrt(width)
    for letter in _LETTERS:
        successor = letter + 1 if letter + 1 in _LETTERS else _LETTERS[0]
        output[successor] = embedding[letter] * (30 / width)
    output[_LETTERS[0], -1] = 30 / np.sqrt(width)


def main() -> None:
    """Write the model that the command line describes."""
    parser = argparse.ArgumentParser(prog="python -m tests.tiny_gguf", description="Write a tiny GGUF model.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--mode", choices=["cycle", "random"], default="cycle")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--embedding", type=int, default=64)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--pooling", action="store_true", help="mean pooling, for embeddings")
    options = vars(parser.parse_args())
    write_tiny_gguf(options.pop("out"), TinyModel(**options))


if __name__ == "__main__":
    main()
