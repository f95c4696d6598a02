"""The sliding window: what it shows is what arrived in the last seconds."""

from __future__ import annotations

import math

import pytest

from tuner.load.live import LiveWindow

S = 1_000_000_000
NOW_NS = 100 * S
SETTLED_NS = NOW_NS - 1 * S


def test_rates_are_those_of_the_last_seconds() -> None:
    live = LiveWindow()
    for tenth in range(600):
        live.note_chunks([40 * S + tenth * S // 10], [5])
    figures = live.figures(0, NOW_NS)
    assert figures["output_tps"] == pytest.approx(50, rel=0.05)
    assert live.output_tokens_total == 3000


def test_old_values_leave_the_window() -> None:
    live = LiveWindow()
    live.note_first(10 * S, 1000.0, 1.0)
    live.note_first(SETTLED_NS, 20.0, 0.5)
    live.note_gaps(10 * S, [500.0])
    live.note_gaps(SETTLED_NS, [10.0, 12.0])
    live.note_end(SETTLED_NS, good=True, failed=False, isl_tokens=7, tpot_ms=11.0, e2e_ms=200.0)
    figures = live.figures(0, NOW_NS)
    assert figures["ttft_p50_ms"] == figures["ttft_p99_ms"] == 20.0
    assert figures["itl_p50_ms"] == 11.0
    assert figures["tpot_p99_ms"] == 11.0
    assert figures["e2e_p50_ms"] == 200.0
    assert figures["client_lag_p99_ms"] == 0.5
    assert figures["request_rps"] == pytest.approx(0.2)


def test_nothing_is_known_at_first() -> None:
    figures = LiveWindow().figures(NOW_NS, NOW_NS)
    assert math.isnan(figures["ttft_p50_ms"])
    assert "output_tps" not in figures


def test_failures_are_counted_apart() -> None:
    live = LiveWindow()
    live.note_end(SETTLED_NS, good=False, failed=True, isl_tokens=7, tpot_ms=math.nan, e2e_ms=math.nan)
    assert (live.done_total, live.failed_total, live.input_tokens_total) == (0, 1, 0)


def test_share_of_requests_that_meet_the_slos_is_that_of_the_last_seconds() -> None:
    live = LiveWindow()
    live.note_judged([10 * S, 11 * S], [False, False])
    live.note_judged([SETTLED_NS, SETTLED_NS - 1, SETTLED_NS - 2, SETTLED_NS - 3], [True, True, False, True])
    assert live.figures(0, NOW_NS)["slo_met_ratio"] == 0.75


def test_without_a_judged_request_the_share_is_unknown() -> None:
    live = LiveWindow()
    live.note_end(SETTLED_NS, good=True, failed=False, isl_tokens=7, tpot_ms=11.0, e2e_ms=200.0)
    assert "slo_met_ratio" not in live.figures(0, NOW_NS)
