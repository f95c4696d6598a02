"""Blocks: what goes in comes out, and nothing else does harm."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sessions.blocks import MAX_VALUES, decode_block, encode_block
from sessions.errors import DamagedData

DTYPES = (np.int8, np.int16, np.int32, np.int64, np.uint16, np.float32)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, st.integers(0, 40))),
        max_size=4,
    )
)
def test_every_column_comes_back_as_it_was(columns: dict[str, np.ndarray]) -> None:
    decoded, extra = decode_block(encode_block(columns, {"note": "x"}))

    assert extra == {"note": "x"}
    assert decoded.keys() == columns.keys()
    for name, values in columns.items():
        assert decoded[name].dtype == values.dtype
        np.testing.assert_array_equal(decoded[name], values)


def test_extreme_integers_survive_their_differences() -> None:
    values = np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max, 0], np.int64)

    decoded, _ = decode_block(encode_block({"t": values}))

    np.testing.assert_array_equal(decoded["t"], values)


@given(st.binary(max_size=200))
def test_noise_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(DamagedData):
        decode_block(data)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_a_changed_block_is_read_or_refused(place: int, change: bytes) -> None:
    block = encode_block({"a": np.arange(50, dtype=np.int32), "b": np.ones(3, np.float32)})
    place %= len(block)
    damaged = block[:place] + change + block[place + len(change) :]

    try:
        columns, _ = decode_block(damaged)
    except DamagedData:
        return
    assert all(len(values) <= MAX_VALUES for values in columns.values())


def test_a_column_that_claims_too_much_is_refused() -> None:
    block = encode_block({"a": np.arange(10, dtype=np.int32)})
    greedy = block.replace(b'"n":10', b'"n":99999999')
    greedy = greedy[:4] + (int.from_bytes(block[4:8], "little") + 6).to_bytes(4, "little") + greedy[8:]

    with pytest.raises(DamagedData, match="claims"):
        decode_block(greedy)


def test_a_compressed_bomb_does_not_inflate() -> None:
    block = encode_block({"a": np.arange(1_000_000, dtype=np.int32)})
    small = block.replace(b'"n":1000000', b'"n":1      ')

    with pytest.raises(DamagedData):
        decode_block(small)


def test_a_column_of_one_value_takes_no_room() -> None:
    block = encode_block({"a": np.full(1_000_000, 7, np.int16), "b": np.arange(3)})

    columns, _ = decode_block(block)

    assert len(block) < 300
    assert columns["a"].dtype == np.int16
    assert (columns["a"].size, set(columns["a"].tolist())) == (1_000_000, {7})


def test_a_negative_count_does_not_make_room_for_more() -> None:
    header = json.dumps({
        "columns": [
            *({"name": f"c{place}", "dtype": "i8", "n": 1 << 24, "constant": 1, "bytes": 0} for place in range(40)),
            {"name": "less", "dtype": "i8", "n": -(1 << 30), "constant": 1, "bytes": 0},
        ],
        "extra": {},
    }).encode()  # fmt: skip
    tracemalloc.start()

    with pytest.raises(DamagedData, match="claims -1073741824 values"):
        decode_block(b"TTB1" + len(header).to_bytes(4, "little") + header)

    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_block_that_claims_more_than_fits_in_memory_is_refused_before_it_is_decoded() -> None:
    block = encode_block({f"c{place}": np.full(1 << 23, place, np.int64) for place in range(20)})

    with pytest.raises(DamagedData, match="fit in memory"):
        decode_block(block)
