"""The formulas, on requests whose answers are known by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions.metrics import METRICS, STATS, chunk_gaps, describe, request_values, summarise
from sessions.requests import ABSENT, RequestStatus, RequestTable
from sessions.resources import Resources, with_resources
from sessions.slo import Slo
from tests.sessions import request_rows

MS = 1_000_000
S = 1_000_000_000


def row(
    *,
    sent_ms: float = 0,
    chunks_ms: tuple[float, ...] = (100, 120, 140),
    tokens: tuple[int, ...] | None = None,
    scheduled_ms: float | None = None,
    end_ms: float | None = None,
    **other: Any,
) -> dict[str, Any]:
    sent_ns = int(sent_ms * MS)
    counts = tokens if tokens is not None else (1,) * len(chunks_ms)
    last_ms = chunks_ms[-1] if chunks_ms else 0
    usual = request_rows.row(
        scheduled_ns=sent_ns if scheduled_ms is None else int(scheduled_ms * MS),
        sent_ns=sent_ns,
        first_ns=sent_ns + int(chunks_ms[0] * MS) if chunks_ms else ABSENT,
        last_ns=sent_ns + int(last_ms * MS) if chunks_ms else ABSENT,
        end_ns=int(end_ms * MS) if end_ms is not None else sent_ns + int(last_ms * MS) + 1,
        isl_tokens=10,
        osl_tokens=sum(counts),
        cached_tokens=ABSENT,
        lag_first_us=50,
        chunk_us=[int(ms * 1000) for ms in chunks_ms],
        chunk_tokens=list(counts),
    )
    return {**usual, **other}


def table(*rows: dict[str, Any]) -> RequestTable:
    return RequestTable.from_rows(list(rows))


def avg(rows: tuple[dict[str, Any], ...], metric: str, end_s: float = 10, **extra: Any) -> float:
    return summarise(table(*rows), 0, int(end_s * S), **extra)[metric]["avg"]


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("ttft", 100),
        ("itl", 20),
        ("icl", 20),
        ("tpot", 20),
        ("e2e", 140),
        ("osl", 3),
        ("isl", 10),
        ("client_lag", 0.05),
    ],
)
def test_latencies_of_a_plain_request(metric: str, value: float) -> None:
    assert avg((row(),), metric) == pytest.approx(value)


def test_a_chunk_of_k_tokens_counts_as_k() -> None:
    rows = (row(chunks_ms=tuple(100 + 20 * place for place in range(10)), tokens=(4,) * 10),)
    summary = summarise(table(*rows), 0, 10 * S)
    assert summary["itl"]["avg"] == pytest.approx(5.0)
    assert summary["itl"]["count"] == 36
    assert summary["icl"]["avg"] == pytest.approx(20.0)
    assert summary["tpot"]["avg"] == pytest.approx(5.0)


def test_open_loop_latencies_count_from_the_schedule() -> None:
    summary = summarise(table(row(sent_ms=50, scheduled_ms=20)), 0, 10 * S)
    assert summary["ttft"]["avg"] == pytest.approx(130)
    assert summary["e2e"]["avg"] == pytest.approx(170)
    assert summary["schedule_lag"]["avg"] == pytest.approx(30)


def test_gaps_of_unknown_length_are_left_out_and_counted() -> None:
    rows = (row(chunks_ms=(100, 120, 160, 160, 180)),)
    gaps = chunk_gaps(table(*rows))
    assert gaps.certain.tolist() == [True, False, False, True]
    summary = summarise(table(*rows), 0, 10 * S)
    assert summary["itl"]["max"] == pytest.approx(20)
    assert summary["doubtful_gap_ratio"]["avg"] == pytest.approx(0.5)


def test_a_doubtful_first_token_is_left_out_of_ttft_and_counted() -> None:
    summary = summarise(table(row(chunks_ms=(150, 150, 170)), row()), 0, 10 * S)
    assert summary["ttft"]["count"] == 1
    assert summary["ttft"]["avg"] == pytest.approx(100)
    assert summary["doubtful_ttft_ratio"]["avg"] == pytest.approx(0.5)


def test_no_gap_reaches_from_one_request_into_the_next() -> None:
    gaps = chunk_gaps(table(row(chunks_ms=(100, 120)), row(chunks_ms=(5,)), row(chunks_ms=()), row(chunks_ms=(7, 9))))
    assert gaps.gap_ms.tolist() == pytest.approx([20, 2])
    assert gaps.row.tolist() == [0, 3]


def test_a_request_counts_in_the_window_in_which_it_ends() -> None:
    rows = (row(end_ms=1000), row(end_ms=2000), row(end_ms=2001), row(end_ms=3000))
    assert summarise(table(*rows), 1 * S, 2 * S)["requests"]["avg"] == 1
    assert summarise(table(*rows), 2 * S, 3 * S)["requests"]["avg"] == 2


def test_output_tokens_count_in_the_window_in_which_they_arrive() -> None:
    rows = (row(chunks_ms=(500, 1500, 2500, 3500), tokens=(1, 2, 4, 8)),)
    summary = summarise(table(*rows), 1 * S, 3 * S)
    assert summary["output_token_throughput"]["avg"] == pytest.approx(3.0)
    assert summary["requests"]["avg"] == 0


def test_throughputs_add_up() -> None:
    rows = tuple(row(sent_ms=100 * place) for place in range(20))
    assert avg(rows, "output_token_throughput") == pytest.approx(6.0)
    assert avg(rows, "input_token_throughput") == pytest.approx(20.0)
    assert avg(rows, "total_token_throughput") == pytest.approx(26.0)
    assert avg(rows, "request_throughput") == pytest.approx(2.0)
    assert avg(rows, "sent_rate") == pytest.approx(2.0)
    assert avg(rows, "concurrency") == pytest.approx(20 * 0.14 / 10, rel=1e-3)
    assert avg(rows, "output_token_throughput_per_user") == pytest.approx(50.0)


def test_failures_count_against_the_result_and_not_in_its_latencies() -> None:
    failed = row(chunks_ms=(5000,), status=RequestStatus.CUT)
    cancelled = row(chunks_ms=(), end_ms=50, status=RequestStatus.CANCELLED)
    summary = summarise(table(row(), row(), row(), failed, cancelled), 0, 10 * S, [Slo.parse("ttft:200")])
    assert summary["error_ratio"]["avg"] == pytest.approx(0.25)
    assert summary["cancelled_ratio"]["avg"] == pytest.approx(0.2)
    assert summary["ttft"]["max"] == pytest.approx(100)
    assert summary["goodput"]["avg"] == pytest.approx(0.3)
    assert summary["goodput_ratio"]["avg"] == pytest.approx(0.6)
    assert summary["output_token_throughput"]["avg"] == pytest.approx(0.9)


def test_goodput_needs_every_slo_of_every_request() -> None:
    rows = (row(), row(chunks_ms=(300, 310)), row(chunks_ms=(100, 200)), row(chunks_ms=(100,)))
    slos = [Slo.parse("ttft:p99:<=:200"), Slo.parse("itl:50")]
    assert avg(rows, "goodput", slos=slos) == pytest.approx(0.1)


def test_requests_without_tokens_have_no_latency() -> None:
    values = request_values(table(row(chunks_ms=()), row(chunks_ms=(100,))))
    assert np.isnan(values.ttft_ms).tolist() == [True, False]
    assert np.isnan(values.tpot_ms).all()


def test_an_empty_window_says_nothing_about_latency() -> None:
    summary = summarise(RequestTable.empty(), 0, S)
    assert "ttft" not in summary
    assert summary["request_throughput"]["avg"] == 0
    assert summarise(table(row()), S, S) == {}


def test_every_result_is_in_the_glossary() -> None:
    of_requests = summarise(table(row(sent_ms=1, scheduled_ms=0, cached_tokens=3)), 0, S, [Slo.parse("ttft:1")])
    summary = with_resources(of_requests, Resources(gpus=2, energy_j=700.0, window_s=1.0, gpu_hour_price=3.0))
    assert set(summary) == set(METRICS)
    for name, statistics in summary.items():
        assert set(statistics) == (set(STATS) if METRICS[name].distribution else {"avg"})


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_statistics_are_those_of_all_values(values: list[float]) -> None:
    found = describe(np.array([*values, np.nan]))
    assert found["count"] == len(values)
    assert found["min"] == min(values)
    assert found["max"] == max(values)
    assert found["avg"] == pytest.approx(np.mean(values))
    assert found["min"] <= found["p1"] <= found["p50"] <= found["p99"] <= found["max"]


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 5)), max_size=8), max_size=6),
    st.integers(0, 8),
    st.integers(1, 8),
)
def test_windows_side_by_side_miss_and_double_nothing(
    requests: list[list[tuple[int, int]]], start_s: int, middle_s: int
) -> None:
    rows = []
    for chunks in requests:
        times = tuple(sorted(time for time, _ in chunks))
        rows.append(row(sent_ms=1, chunks_ms=times, tokens=tuple(tokens for _, tokens in chunks)))
    whole = summarise(table(*rows), 0, 20 * S)
    edges = sorted({0, start_s * S, middle_s * S, 20 * S})
    parts = [summarise(table(*rows), start, end) for start, end in pairwise(edges)]
    for metric in ("output_token_throughput", "request_throughput"):
        total = sum(part[metric]["avg"] * part["window"]["avg"] for part in parts)
        assert total == pytest.approx(whole[metric]["avg"] * 20)
