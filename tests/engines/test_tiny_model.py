"""The tiny model: small, the same every time, with a vocabulary that every text fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.llamacpp_server.tiny_model import TinyShape, byte_symbols, vocabulary, write_tiny_model

SMALL = TinyShape(layers=1, hidden=32, heads=2, kv_heads=1, intermediate=64, vocabulary=512, context_tokens=128)


def test_every_byte_has_a_printable_symbol_of_its_own() -> None:
    symbols = byte_symbols()

    assert set(symbols) == set(range(256))
    assert len(set(symbols.values())) == 256
    assert all(symbol.isprintable() for symbol in symbols.values())


@given(st.integers(300, 16_000))
def test_tokens_are_distinct_and_every_merge_joins_earlier_tokens(size: int) -> None:
    tokens, merges = vocabulary(size)

    known = set(byte_symbols().values())
    for left, right in merges:
        assert {left, right} <= known
        known.add(left + right)
    assert len(tokens) == len(set(tokens)) == size


@pytest.mark.parametrize("size", [0, 258, 100_000])
def test_a_vocabulary_that_cannot_be_made_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="choose between 300 and 16000"):
        vocabulary(size)


def test_the_same_seed_gives_the_same_file_and_another_seed_another(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    first, second, other = (tmp_path / name for name in ("a.gguf", "b.gguf", "c.gguf"))

    write_tiny_model(first, SMALL)
    write_tiny_model(second, SMALL)
    write_tiny_model(other, SMALL, seed=8)

    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != other.read_bytes()


def test_the_usual_model_stays_below_fifteen_megabytes(tiny_model: Path) -> None:
    assert 10_000_000 < tiny_model.stat().st_size < 15_000_000
