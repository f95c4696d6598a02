"""What limits a server, and why: a table of rules over means of what was sampled, first match wins.

Utilisation says 100 % in a compute-bound and in a bandwidth-bound server alike, so the rules look at what can run out:
KV cache, batch slots, tokens of an iteration, power, memory bandwidth, tensor pipes, the client itself
(contract gpu_telemetry section 3). The screen asks it about the last seconds, the tuner about the measuring window of a trial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sessions.figures import number, percent, whole
from sessions.throttle import POWER_CAP_BIT, THERMAL_BITS, has_reason, reasons_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KV_FULL_RATIO = 0.95
CLIENT_LATE_MS = 20.0
"""Lag of reading (p99) beyond which several tokens of one stream may sit in one read, so that even kernel times blur."""
DRAM_BOUND_PCT = 70.0
TENSOR_BOUND_PCT = 55.0
BUSY_PCT = 20.0
POWER_CAP_RATIO = 0.97
NEAR_CAP_RATIO = 0.8
CLOCK_LOWERED_RATIO = 0.95
NEARLY_ALL = 0.9
LEANING_BUSY_PCT = 90.0
LEANING_PCT = 40.0
LEANING_RATIO = 2.0
"""A GPU that is always busy leans to what one pipe does this much more of than the other, though neither is full in the mean:
prompts and single tokens take turns."""
QUEUE_SHARE = 0.1
"""Of those that run: fewer wait in any server, until the iteration under way has ended."""

TOO_LITTLE = "load"
"""Kind of what is no limit of the server: more could be asked of it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Means over a span of time; NaN where nothing is known. GPU numbers are those of the busiest GPU."""

    gpu: str
    util_pct: float
    tensor_pct: float
    dram_pct: float
    power_ratio: float
    power_w: float
    clock_ratio: float
    throttle_mask: float
    kv_used_ratio: float
    running: float
    waiting: float
    waiting_growth: float
    paused: float
    batch_limit: float
    in_flight: float
    client_lag_ms: float
    context_tokens: float = math.nan
    token_limit: float = math.nan


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit: its kind, its name for a person, when it holds, and what shows it."""

    kind: str
    limit: str
    holds: Callable[[Evidence], bool]
    because: Callable[[Evidence], str]


def _power_capped(e: Evidence) -> bool:
    at_limit = e.power_ratio >= POWER_CAP_RATIO
    told = e.power_ratio >= NEAR_CAP_RATIO and has_reason(e.throttle_mask, POWER_CAP_BIT)
    return e.clock_ratio < CLOCK_LOWERED_RATIO and (at_limit or told)


def _has_free_slots(e: Evidence) -> bool:
    return e.running < NEARLY_ALL * e.batch_limit


def _waits(e: Evidence) -> bool:
    return e.waiting >= 1 and not e.waiting < QUEUE_SHARE * e.running


def _grows(e: Evidence) -> bool:
    return e.waiting >= 2 and e.waiting_growth > 0.2 * e.waiting


def _leans(e: Evidence, more_pct: float, less_pct: float) -> bool:
    return e.util_pct >= LEANING_BUSY_PCT and more_pct >= LEANING_PCT and more_pct >= LEANING_RATIO * less_pct


RULES: tuple[Rule, ...] = (
    Rule(
        "client",
        "our own client",
        lambda e: e.client_lag_ms > CLIENT_LATE_MS,
        lambda e: (
            f"tokens are read {number(e.client_lag_ms)} ms after they arrive (p99): this host is too busy to be exact"
        ),
    ),
    Rule(
        "heat",
        "heat",
        lambda e: has_reason(e.throttle_mask, THERMAL_BITS),
        lambda e: f"GPU {e.gpu} slows down: {_why_slow(e.throttle_mask)}; clock at {percent(e.clock_ratio)}",
    ),
    Rule(
        "kv_capacity",
        "KV cache",
        lambda e: e.kv_used_ratio >= KV_FULL_RATIO and (e.waiting >= 1 or e.paused >= 1),
        lambda e: f"{percent(e.kv_used_ratio)} of the blocks in use, {whole(e.waiting)} wait, {_zero(e.paused)} paused",
    ),
    Rule(
        "batch_limit",
        "batch size",
        lambda e: e.waiting >= 1 and e.running >= 0.97 * e.batch_limit,
        lambda e: f"{whole(e.running)} of {whole(e.batch_limit)} slots taken, {whole(e.waiting)} wait{_kv(e)}",
    ),
    Rule(
        "token_budget",
        "the token budget",
        lambda e: e.waiting >= 1 and e.context_tokens >= NEARLY_ALL * e.token_limit,
        lambda e: (
            f"{whole(e.context_tokens)} of {whole(e.token_limit)} tokens of an iteration go to prompts,"
            f" {whole(e.waiting)} wait"
        ),
    ),
    Rule(
        "power_cap",
        "GPU power",
        _power_capped,
        lambda e: (
            f"GPU {e.gpu} at {percent(e.power_ratio)} of its power limit ({whole(e.power_w)} W), clock at"
            f" {percent(e.clock_ratio)} of its maximum{_pipes(e)}"
        ),
    ),
    Rule(
        "decode_bandwidth",
        "memory bandwidth",
        lambda e: e.dram_pct >= DRAM_BOUND_PCT and not e.tensor_pct >= e.dram_pct,
        lambda e: f"DRAM {whole(e.dram_pct)} % busy against tensor {whole(e.tensor_pct)} %: larger batches cost little",
    ),
    Rule(
        "prefill_compute",
        "compute",
        lambda e: e.tensor_pct >= TENSOR_BOUND_PCT,
        lambda e: (
            f"tensor pipes {whole(e.tensor_pct)} % busy against DRAM {whole(e.dram_pct)} %: larger batches only queue"
        ),
    ),
    Rule(
        "admission",
        "the admission of prompts",
        lambda e: _grows(e) and _has_free_slots(e),
        lambda e: f"{e.waiting_growth:.0f} more wait than seconds ago, {_admitted(e)}",
    ),
    Rule(
        "queue",
        "a growing queue",
        _grows,
        lambda e: f"{e.waiting_growth:.0f} more wait than seconds ago, with {whole(e.running)} running{_kv(e)}",
    ),
    Rule(
        TOO_LITTLE,
        "too little load",
        lambda e: e.util_pct < BUSY_PCT and not e.waiting >= 1 and not e.running >= 8,
        lambda e: f"GPU {e.gpu} is {whole(e.util_pct)} % busy and nothing waits: the server could do more",
    ),
    Rule(
        "host",
        "the host",
        lambda e: e.util_pct < 70 and e.running >= 8 and not e.waiting >= 1,
        lambda e: (
            f"{whole(e.running)} requests run, yet GPU {e.gpu} is only {whole(e.util_pct)} % busy: launch or CPU overhead"
        ),
    ),
    Rule(
        "prefill_compute",
        "compute",
        lambda e: _leans(e, e.tensor_pct, e.dram_pct),
        lambda e: f"GPU {e.gpu} {whole(e.util_pct)} % busy, and more with prompts than with memory{_pipes(e)}",
    ),
    Rule(
        "decode_bandwidth",
        "memory bandwidth",
        lambda e: _leans(e, e.dram_pct, e.tensor_pct),
        lambda e: f"GPU {e.gpu} {whole(e.util_pct)} % busy, and more with memory than with prompts{_pipes(e)}",
    ),
    Rule(
        "admission",
        "the admission of prompts",
        lambda e: _waits(e) and _has_free_slots(e),
        lambda e: f"{whole(e.waiting)} wait {_admitted(e)}",
    ),
    Rule(
        "queue",
        "the queue",
        _waits,
        lambda e: f"{whole(e.waiting)} wait while {whole(e.running)} run{_kv(e)}",
    ),
    Rule(
        TOO_LITTLE,
        "too little load",
        lambda e: not e.util_pct >= 0 and e.waiting < 1,
        lambda e: f"nothing waits while {whole(e.running)} run: the server could take more",
    ),
)
"""Most certain first; a comparison with an unknown (NaN) never holds."""

MOVED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "kv_capacity": ("kv_precision", "free_memory_share", "total_memory_share", "kv_tokens", "tensor_parallel"),
    "batch_limit": ("batch",),
    "token_budget": ("token_budget", "chunked"),
    "queue": ("replicas", "batch", "tensor_parallel", "policy"),
    "admission": ("token_budget", "chunked", "policy", "replicas", "tensor_parallel"),
    "prefill_compute": ("weight_precision", "tensor_parallel", "chunked"),
    "decode_bandwidth": ("weight_precision", "kv_precision", "batch", "tensor_parallel"),
    "host": ("graphs", "eager", "graph_batch", "graph_padding"),
    "first_token": ("token_budget", "chunked", "tensor_parallel", "replicas", "policy"),
    "next_token": ("chunked", "tensor_parallel", "weight_precision", "graphs", "replicas"),
}
"""What would move a limit, most promising first, by what knobs mean (`tuner.search.problem.Meaning`); nothing for the others."""

SLO_LIMITS: Final[Mapping[str, str]] = {
    "ttft": "first_token",
    "tpot": "next_token",
    "itl": "next_token",
    "icl": "next_token",
    "output_token_throughput_per_user": "next_token",
}
"""What an SLO limits when nothing of the server does, by its metric."""


def limit_of(evidence: Evidence) -> Rule | None:
    """The rule that names what limits, or None when nothing does or nothing is known."""
    return next((rule for rule in RULES if rule.holds(evidence)), None)


def figures_of(evidence: Evidence) -> tuple[str, ...]:
    """Everything that is known, a line each."""
    e = evidence
    lines = (
        (e.util_pct, f"GPU {e.gpu} {whole(e.util_pct)} % busy"),
        (e.tensor_pct, f"tensor pipes {whole(e.tensor_pct)} % busy"),
        (e.dram_pct, f"DRAM {whole(e.dram_pct)} % busy"),
        (e.power_ratio, f"{whole(e.power_w)} W, {percent(e.power_ratio)} of the power limit"),
        (e.clock_ratio, f"SM clock at {percent(e.clock_ratio)} of its maximum"),
        (e.kv_used_ratio, f"{percent(e.kv_used_ratio)} of the KV cache in use"),
        (e.running, f"{whole(e.running)} running{_of_limit(e)}"),
        (e.waiting, f"{whole(e.waiting)} waiting"),
        (e.context_tokens, f"{whole(e.context_tokens)} prompt tokens an iteration"),
    )
    return tuple(text for value, text in lines if not math.isnan(value))


def _of_limit(evidence: Evidence) -> str:
    return "" if math.isnan(evidence.batch_limit) else f" of at most {whole(evidence.batch_limit)}"


def _why_slow(mask: float) -> str:
    return ", ".join(words for _, words in reasons_in(mask))


def _admitted(evidence: Evidence) -> str:
    return f"though {whole(evidence.running)} of {whole(evidence.batch_limit)} slots are taken{_kv(evidence)}"


def _zero(value: float) -> str:
    return whole(value) if value == value else "0"


def _kv(evidence: Evidence) -> str:
    return (
        f", KV cache {percent(evidence.kv_used_ratio)} used" if evidence.kv_used_ratio == evidence.kv_used_ratio else ""
    )


def _pipes(evidence: Evidence) -> str:
    if evidence.tensor_pct != evidence.tensor_pct:
        return ""
    return f"; tensor {whole(evidence.tensor_pct)} %, DRAM {whole(evidence.dram_pct)} %"
