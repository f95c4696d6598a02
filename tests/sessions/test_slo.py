"""SLOs as users write them."""

from __future__ import annotations

from typing import Any

import pytest

from sessions.slo import BadSlo, Slo


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("ttft:p99:<=:500", Slo("ttft", "p99", "<=", 500)),
        ("time_to_first_token:p95:lt:0.5e3", Slo("ttft", "p95", "<", 500)),
        ("request_latency:avg:LE:2000", Slo("e2e", "avg", "<=", 2000)),
        ("output_token_throughput:avg:ge:100", Slo("output_token_throughput", "avg", ">=", 100)),
        ("inter_token_latency:25", Slo("tpot", "each", "<=", 25)),
        ("inter_chunk_latency:p99:<=:25", Slo("icl", "p99", "<=", 25)),
        ("output_token_throughput_per_user:30", Slo("output_token_throughput_per_user", "each", ">=", 30)),
    ],
)
def test_slos_are_read_as_text(text: str, slo: Slo) -> None:
    assert Slo.parse(text) == slo


@pytest.mark.parametrize(
    ("name", "value", "slo"),
    [
        ("ttft_p99_ms", 500, Slo("ttft", "p99", "<=", 500)),
        ("e2e_p90_s", 2, Slo("e2e", "p90", "<=", 2000)),
        ("itl_ms", 50, Slo("itl", "each", "<=", 50)),
        ("tpot_avg_ms", 9.5, Slo("tpot", "avg", "<=", 9.5)),
        ("error_ratio", 0.01, Slo("error_ratio", "avg", "<=", 0.01)),
        ("output_token_throughput_per_user_p10", 30, Slo("output_token_throughput_per_user", "p10", ">=", 30)),
    ],
)
def test_slos_are_read_as_fields(name: str, value: float, slo: Slo) -> None:
    assert Slo.from_field(name, value) == slo


@pytest.mark.parametrize(
    "text", ["ttft", "ttft:p99:500", "ttft:p98:<=:5", "speed:avg:<=:5", "ttft:p99:~:5", "ttft:p99:<=:x", "ttft:nan"]
)
def test_other_texts_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadSlo) as caught:
        Slo.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("ttft_p99_tokens", 5), ("ttft_p99_ms", "fast"), ("speed_ms", 5), ("ttft_p99_ms", True)]
)
def test_other_fields_are_refused(name: str, value: Any) -> None:
    with pytest.raises(BadSlo):
        Slo.from_field(name, value)


def test_a_slo_holds_fails_or_has_nothing_to_say() -> None:
    summary = {"ttft": {"p99": 400.0}}
    assert Slo.parse("ttft:p99:<=:500").holds(summary) is True
    assert Slo.parse("ttft:p99:<=:300").holds(summary) is False
    assert Slo.parse("ttft:p50:<=:300").holds(summary) is None
    assert str(Slo.parse("ttft:p99:<=:500")) == "ttft p99 <= 500 ms"
