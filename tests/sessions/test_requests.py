"""Request tables: columnar, compact, and the same after a round trip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions import requests
from sessions.blocks import decode_block, encode_block
from sessions.errors import DamagedData
from sessions.requests import ABSENT, RequestStatus, RequestTable
from tests.sessions.request_rows import assert_same, row

rows = st.lists(
    st.builds(
        row,
        index=st.integers(0, 2**31 - 1),
        scheduled_ns=st.integers(0, 2**50),
        sent_ns=st.integers(0, 2**50),
        first_ns=st.one_of(st.just(ABSENT), st.integers(0, 2**50)),
        chunk_us=st.just([]),
        chunk_tokens=st.just([]),
        status=st.sampled_from(RequestStatus),
    ),
    max_size=20,
)


def test_a_strangers_errors_are_harmless_texts() -> None:
    table = RequestTable.from_rows([row(error=0), row(error=1)], errors=("MARK", "\x1b[2Jbbbb"))
    columns, _ = decode_block(table.to_blob())
    blob = encode_block(columns, {"errors": ["MARK", "\x1b[2Jbbbb"]})
    deep = b"[" * 1000 + b"]" * 1000
    size = int.from_bytes(blob[4:8], "little") + len(deep) - len(b'"MARK"')
    blob = blob[:4] + size.to_bytes(4, "little") + blob[8:].replace(b'"MARK"', deep)

    assert RequestTable.from_blob(blob).errors == ("", "bbbb")


def test_errors_of_more_kinds_than_are_told_apart_are_kept_as_one() -> None:
    texts = [f"E{number}" for number in range(requests.MOST_ERRORS + 5)]
    tables = [
        RequestTable.from_rows([row(index=index, error=index) for index in range(len(part))], errors=tuple(part))
        for part in (texts[:20_000], texts[20_000:])
    ]

    whole = RequestTable.concat(tables)
    again = RequestTable.from_blobs([table.to_blob() for table in tables], arrivals=False)

    for table in (whole, again):
        told = [table.errors[place] for place in table.error]
        assert told[: requests.MOST_ERRORS] == texts[: requests.MOST_ERRORS]
        assert set(told[requests.MOST_ERRORS :]) == {requests.OTHER_ERRORS}
        assert len(table.errors) == requests.MOST_ERRORS + 1


@given(rows)
def test_a_table_survives_its_blob(given_rows: list[dict[str, Any]]) -> None:
    table = RequestTable.from_rows(given_rows)

    assert_same(RequestTable.from_blob(table.to_blob()), table)


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=12).map(sorted), max_size=10))
def test_token_arrivals_survive_their_blob(arrivals: list[list[int]]) -> None:
    table = RequestTable.from_rows([row(chunk_us=each, chunk_tokens=[1] * len(each)) for each in arrivals])

    assert_same(RequestTable.from_blob(table.to_blob()), table)


def test_concatenation_keeps_rows_and_error_texts_apart() -> None:
    one = RequestTable.from_rows([row(error=0), row()], errors=("refused",))
    other = RequestTable.from_rows([row(error=1, index=7)], errors=("refused", "cut"))

    both = RequestTable.concat([one, RequestTable.empty(), other])

    told = [both.errors[place] if place >= 0 else None for place in both.error]
    assert told == ["refused", None, "cut"]
    assert list(both.index) == [0, 0, 7]
    assert len(both.chunk_us) == 9


def test_selecting_rows_takes_their_chunks_along() -> None:
    table = RequestTable.from_rows([row(chunk_us=[1, 2], chunk_tokens=[1, 1]), row(chunk_us=[9], chunk_tokens=[4])])

    kept = table.select(np.array([False, True]))

    assert list(kept.chunk_us) == [9]
    assert list(kept.chunk_tokens) == [4]


def test_a_block_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(DamagedData):
        RequestTable.from_blob(encode_block({"index": np.zeros(3, np.int32)}))


def test_a_token_costs_less_than_two_and_a_half_bytes() -> None:
    rng = np.random.default_rng(1)
    sent = 10**12 + np.cumsum(rng.exponential(1e7, 200)).astype(int)
    tables = [
        row(index=number, sent_ns=int(time), scheduled_ns=int(time) - 5, first_ns=int(time) + 10**8, last_ns=int(time) + 10**9,
            end_ns=int(time) + 10**9, chunk_us=list(100_000 + np.cumsum(rng.normal(20_000, 500, 128)).astype(int)),
            chunk_tokens=[1] * 128)
        for number, time in enumerate(sent)
    ]  # fmt: skip

    blob = RequestTable.from_rows(tables).to_blob()

    assert len(blob) / (200 * 128) < 2.5
