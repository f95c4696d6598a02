"""What a person may type as the range of a knob."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.knob_domains import domain_text, parse_domain
from tui.snapshot import KnobFact

BATCH = KnobFact("max_batch_size", "int", 1, 2048, (), 2048, log=True)
SHARE = KnobFact("free_gpu_memory_fraction", "float", 0.3, 0.98, (), 0.9)
POLICY = KnobFact("policy", "choice", None, None, ("GUARANTEED_NO_EVICT", "MAX_UTILIZATION"), "GUARANTEED_NO_EVICT")
CHUNKED = KnobFact("enable_chunked_prefill", "bool", None, None, (), False)
PARALLEL = KnobFact("tensor_parallel_size", "choice", None, None, (1, 2, 4), 1)


@pytest.mark.parametrize(
    ("knob", "typed", "domain"),
    [
        (BATCH, "64..512", {"low": 64, "high": 512}),
        (BATCH, " 64 to 4096 log ", {"low": 64, "high": 4096, "log": True}),
        (BATCH, "64..512 step 64", {"low": 64, "high": 512, "step": 64}),
        (BATCH, "64, 128, 256", [64, 128, 256]),
        (BATCH, "256", 256),
        (SHARE, "0.5..0.95", {"low": 0.5, "high": 0.95}),
        (POLICY, "MAX_UTILIZATION", "MAX_UTILIZATION"),
        (CHUNKED, "on", True),
        (CHUNKED, "off, on", [False, True]),
        (PARALLEL, "2, 4", [2, 4]),
    ],
)
def test_spans_lists_and_single_values_are_read(knob: KnobFact, typed: str, domain: Any) -> None:
    assert parse_domain(knob, typed) == domain


@pytest.mark.parametrize(
    ("knob", "typed", "told"),
    [
        (BATCH, "", "is no range"),
        (BATCH, "512..64", "must rise"),
        (BATCH, "0..64 log", "begins above 0"),
        (BATCH, "1..64 log step 2", "takes no step"),
        (BATCH, "1..64 step 0", "above 0"),
        (BATCH, "1..64 stride 2", "is no range"),
        (BATCH, "a..b", "not allowed"),
        (BATCH, "1.5", "not allowed"),
        (BATCH, "64, 64", "twice"),
        (BATCH, ",", "is no range"),
        (POLICY, "1..2", "takes choices"),
        (POLICY, "FASTEST", "not allowed"),
        (PARALLEL, "8", "not allowed"),
    ],
)
def test_mistakes_name_the_knob_and_what_is_allowed(knob: KnobFact, typed: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as error:
        parse_domain(knob, typed)

    assert str(error.value).startswith(f"{knob.name}: ")


@given(st.text(max_size=60))
def test_whatever_is_typed_is_a_range_or_refused(typed: str) -> None:
    for knob in (BATCH, SHARE, POLICY, CHUNKED, PARALLEL):
        with contextlib.suppress(ValueError):
            parse_domain(knob, typed)


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.booleans())
def test_a_range_reads_back_as_it_is_shown(low: int, more: int, log: bool) -> None:
    knob = replace(BATCH, low=low, high=low + more, log=log)

    domain = parse_domain(knob, domain_text(knob))

    assert isinstance(domain, dict)
    assert (domain["low"], domain["high"], domain.get("log", False)) == (low, low + more, log)


@pytest.mark.parametrize("knob", [POLICY, CHUNKED, PARALLEL])
def test_choices_read_back_as_they_are_shown(knob: KnobFact) -> None:
    assert parse_domain(knob, domain_text(knob)) == list(knob.choices or (False, True))
