from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions.bottleneck import RULES, Evidence
from tests.tui.screen_helpers import text_of
from tui.diagnosis import diagnose, gather
from tui.throttle import throttle_words
from tui.widgets.status import limit_row

if TYPE_CHECKING:
    from tui.snapshot import Snapshot

NAN = math.nan
HEALTHY = Evidence(
    gpu="0",
    util_pct=92.0,
    tensor_pct=30.0,
    dram_pct=40.0,
    power_ratio=0.7,
    power_w=490.0,
    clock_ratio=1.0,
    throttle_mask=0.0,
    kv_used_ratio=0.5,
    running=30.0,
    waiting=0.0,
    waiting_growth=0.0,
    paused=0.0,
    batch_limit=64.0,
    in_flight=30.0,
    client_lag_ms=0.1,
)


def limit_of(evidence: Evidence) -> str:
    return next((rule.limit for rule in RULES if rule.holds(evidence)), "")


@pytest.mark.parametrize(
    ("evidence", "limit"),
    [
        (HEALTHY, ""),
        (replace(HEALTHY, client_lag_ms=40.0), "our own client"),
        (replace(HEALTHY, throttle_mask=float(0x20), clock_ratio=0.7), "heat"),
        (replace(HEALTHY, kv_used_ratio=0.97, waiting=12.0), "KV cache"),
        (replace(HEALTHY, running=64.0, waiting=5.0), "batch size"),
        (replace(HEALTHY, waiting=4.0, context_tokens=8000.0, token_limit=8192.0), "the token budget"),
        (replace(HEALTHY, power_ratio=0.99, clock_ratio=0.75), "GPU power"),
        (replace(HEALTHY, dram_pct=82.0), "memory bandwidth"),
        (replace(HEALTHY, tensor_pct=66.0, dram_pct=40.0), "compute"),
        (replace(HEALTHY, waiting=9.0, waiting_growth=6.0), "the admission of prompts"),
        (replace(HEALTHY, running=60.0, waiting=9.0, waiting_growth=6.0), "a growing queue"),
        (replace(HEALTHY, util_pct=4.0, running=1.0), "too little load"),
        (replace(HEALTHY, util_pct=45.0, running=32.0), "the host"),
        (replace(HEALTHY, waiting=2.0), ""),
        (replace(HEALTHY, waiting=3.0), "the admission of prompts"),
        (replace(HEALTHY, running=60.0, waiting=6.0), "the queue"),
        (replace(HEALTHY, batch_limit=NAN, waiting=6.0), "the queue"),
        (replace(HEALTHY, util_pct=97.0, tensor_pct=50.0, dram_pct=19.0), "compute"),
        (replace(HEALTHY, util_pct=97.0, tensor_pct=20.0, dram_pct=48.0), "memory bandwidth"),
    ],
)
def test_limit_is_named(evidence: Evidence, limit: str) -> None:
    assert limit_of(evidence) == limit


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=15, max_size=15))
def test_rules_bear_any_number(numbers: list[float]) -> None:
    evidence = Evidence("0", *numbers)

    for rule in RULES:
        if rule.holds(evidence):
            assert rule.because(evidence)


def test_unknown_numbers_name_no_limit() -> None:
    assert limit_of(Evidence("", *[NAN] * 15)) == ""


def test_power_capped_trial_is_recognised(busy_snapshot: Snapshot) -> None:
    found = diagnose(busy_snapshot)

    assert found.limit == "GPU power"
    assert "700 W" not in found.evidence
    assert "clock at 75 %" in found.evidence


def test_evidence_is_that_of_the_busiest_gpu(busy_snapshot: Snapshot) -> None:
    idle = replace(busy_snapshot.gpus[0], name="gpu9", samples=(), times_ns=(), newest=None)

    assert gather(replace(busy_snapshot, gpus=(idle, *busy_snapshot.gpus))).gpu == "0"


def test_start_of_a_server_limits_nothing(busy_snapshot: Snapshot) -> None:
    assert busy_snapshot.phase is not None
    starting = replace(busy_snapshot, phase=replace(busy_snapshot.phase, name="start"))

    assert diagnose(starting).limit == ""
    assert "starts" in diagnose(starting).evidence


def test_between_trials_nothing_is_said_of_the_one_before(busy_snapshot: Snapshot) -> None:
    between = diagnose(replace(busy_snapshot, running=None, phase=None))

    assert (between.limit, between.evidence) == ("", "no trial runs at this moment")


def test_where_nothing_is_served_the_line_speaks_of_no_limit(busy_snapshot: Snapshot) -> None:
    between = replace(busy_snapshot, running=None, phase=None)
    assert between.fresh

    assert text_of([limit_row(between, 80)]).strip() == "no trial runs at this moment"


@pytest.mark.parametrize(
    ("mask", "words"),
    [(0.0, "nothing"), (4.0, "power cap"), (float(0x24), "hot (software), power cap"), (NAN, "–"), (-1.0, "nothing")],
)
def test_throttle_mask_in_words(mask: float, words: str) -> None:
    assert throttle_words(mask)[0] == words
