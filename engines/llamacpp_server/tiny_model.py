"""Writes a tiny llama model with random weights as GGUF, so that a real server can be tried with no download.

    python -m engines.llamacpp_server.tiny_model FILE.gguf

The text it makes is nonsense; its speed, its queue and its memory are real. Needs `gguf` and numpy only. The same seed
gives the same file.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import gguf

    Tensor = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_CONSONANTS = "bcdfghjklmnprstvwz"
_VOWELS = "aeiou"


@dataclass(frozen=True, slots=True)
class TinyShape:
    """Shape of the model; the default has 7.3 million weights and 14.7 MB."""

    layers: int = 4
    hidden: int = 256
    heads: int = 8
    kv_heads: int = 4
    intermediate: int = 768
    vocabulary: int = 8192
    context_tokens: int = 4096

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


def byte_symbols() -> dict[int, str]:
    """The printable character that stands for each byte in a byte-level BPE vocabulary (the table of GPT-2)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in plain}
    others = (byte for byte in range(256) if byte not in table)
    return table | {byte: chr(256 + place) for place, byte in enumerate(others)}


def vocabulary(size: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens and merges: all bytes, then syllables, words of two syllables, and both with a space in front.

    Every merge joins two tokens that exist already, which is all a byte-level BPE needs.

    Raises:
        ValueError: If the size is smaller than the bytes and special tokens, or larger than syllables can fill.
    """
    symbols = byte_symbols()
    merges = list(itertools.islice(_merges(symbols[0x20]), max(0, size - len(symbols) - len(SPECIAL_TOKENS))))
    tokens = [*symbols.values(), *(left + right for left, right in merges), *SPECIAL_TOKENS]
    if len(tokens) != size:
        raise ValueError(f"a vocabulary of {size} tokens cannot be made; choose between 300 and 16000")
    return tokens, merges


def _merges(space: str) -> Iterator[tuple[str, str]]:
    syllables = [consonant + vowel for consonant in _CONSONANTS for vowel in _VOWELS]
    yield from ((consonant, vowel) for consonant in _CONSONANTS for vowel in _VOWELS)
    yield from ((space, syllable) for syllable in syllables)
    yield from itertools.product(syllables, syllables)
    yield from ((space + first, second) for first in syllables for second in syllables)


def write_tiny_model(path: Path, shape: TinyShape | None = None, seed: int = 7) -> None:
    """Write the model file.

    Args:
        path: File to write; replaced when there is one.
        shape: Shape of the model.
        seed: Seed of its weights.

    Raises:
        ImportError: If `gguf` is not installed.
    """
    import gguf

    chosen = shape or TinyShape()
    writer = gguf.GGUFWriter(str(path), "llama")
    _add_shape(writer, chosen)
    _add_tokenizer(writer, chosen)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for name, tensor in _tensors(chosen, np.random.default_rng(seed)):
        writer.add_tensor(name, tensor if tensor.ndim == 1 else tensor.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, shape: TinyShape) -> None:
    writer.add_name("tiny-random-llama")
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_vocab_size(shape.vocabulary)


def _add_tokenizer(writer: gguf.GGUFWriter, shape: TinyShape) -> None:
    import gguf

    tokens, merges = vocabulary(shape.vocabulary)
    normal = len(tokens) - len(SPECIAL_TOKENS)
    types = [gguf.TokenType.NORMAL] * normal + [gguf.TokenType.CONTROL] * len(SPECIAL_TOKENS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([f"{left} {right}" for left, right in merges])
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(shape: TinyShape, random: np.random.Generator) -> Iterator[tuple[str, Tensor]]:
    """Every weight of the model under its GGUF name."""
    kv_width = shape.kv_heads * shape.head_size

    def matrix(rows: int, columns: int) -> Tensor:
        return random.normal(0.0, 0.02, (rows, columns)).astype(np.float32)

    ones = np.ones(shape.hidden, dtype=np.float32)
    yield "token_embd.weight", matrix(shape.vocabulary, shape.hidden)
    for layer in range(shape.layers):
        yield f"blk.{layer}.attn_norm.weight", ones
        yield f"blk.{layer}.attn_q.weight", matrix(shape.hidden, shape.hidden)
        yield f"blk.{layer}.attn_k.weight", matrix(kv_width, shape.hidden)
        yield f"blk.{layer}.attn_v.weight", matrix(kv_width, shape.hidden)
        yield f"blk.{layer}.attn_output.weight", matrix(shape.hidden, shape.hidden)
        yield f"blk.{layer}.ffn_norm.weight", ones
        yield f"blk.{layer}.ffn_gate.weight", matrix(shape.intermediate, shape.hidden)
        yield f"blk.{layer}.ffn_up.weight", matrix(shape.intermediate, shape.hidden)
        yield f"blk.{layer}.ffn_down.weight", matrix(shape.hidden, shape.intermediate)
    yield "output_norm.weight", ones
    yield "output.weight", matrix(shape.vocabulary, shape.hidden)


def main(arguments: list[str] | None = None) -> int:
    """Write the file named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m engines.llamacpp_server.tiny_model")
    parser.add_argument("file", type=Path, help="GGUF file to write")
    parser.add_argument("--seed", type=int, default=7, help="seed of the weights (default: 7)")
    options = parser.parse_args(arguments)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    write_tiny_model(options.file, seed=options.seed)
    sys.stdout.write(f"{options.file}: {options.file.stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
