"""What limits the server at the moment looked at, and why: a table of rules over the last seconds, first match wins.

Utilisation says 100 % in a compute-bound and in a bandwidth-bound server alike, so the rules look at what can run out:
KV cache, batch slots, power, memory bandwidth, tensor pipes, the client itself (contracts: gpu_telemetry section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui.formatting import number, percent, whole
from tui.snapshot import NAN, NS_PER_S
from tui.throttle import POWER_CAP_BIT, THERMAL_BITS, has_reason, throttle_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from tui.snapshot import Snapshot, Tone, Track

SPAN_NS = 10 * NS_PER_S
"""The past that a diagnosis looks at."""

MIN_SPAN_NS = 2 * NS_PER_S

KV_FULL_RATIO = 0.95
CLIENT_LATE_MS = 20.0
"""Lag of reading (p99) beyond which several tokens of one stream may sit in one read, so that even kernel times blur."""
DRAM_BOUND_PCT = 70.0
TENSOR_BOUND_PCT = 55.0
BUSY_PCT = 20.0
POWER_CAP_RATIO = 0.97
NEAR_CAP_RATIO = 0.8
CLOCK_LOWERED_RATIO = 0.95


@dataclass(frozen=True, slots=True)
class Evidence:
    """Means over the last seconds; NaN where nothing is known. GPU numbers are those of the busiest GPU."""

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


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What limits, in a word or two (empty: nothing does), and the evidence for it."""

    limit: str
    evidence: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit: when it holds, and what shows it."""

    limit: str
    tone: Tone
    holds: Callable[[Evidence], bool]
    because: Callable[[Evidence], str]


def _power_capped(e: Evidence) -> bool:
    at_limit = e.power_ratio >= POWER_CAP_RATIO
    told = e.power_ratio >= NEAR_CAP_RATIO and has_reason(e.throttle_mask, POWER_CAP_BIT)
    return e.clock_ratio < CLOCK_LOWERED_RATIO and (at_limit or told)


RULES: tuple[Rule, ...] = (
    Rule(
        "our own client",
        "bad",
        lambda e: e.client_lag_ms > CLIENT_LATE_MS,
        lambda e: (
            f"tokens are read {number(e.client_lag_ms)} ms after they arrive (p99): this host is too busy to be exact"
        ),
    ),
    Rule(
        "heat",
        "bad",
        lambda e: has_reason(e.throttle_mask, THERMAL_BITS),
        lambda e: f"GPU {e.gpu} slows down: {throttle_words(e.throttle_mask)[0]}; clock at {percent(e.clock_ratio)}",
    ),
    Rule(
        "KV cache",
        "warn",
        lambda e: e.kv_used_ratio >= KV_FULL_RATIO and (e.waiting >= 1 or e.paused >= 1),
        lambda e: f"{percent(e.kv_used_ratio)} of the blocks in use, {whole(e.waiting)} wait, {_zero(e.paused)} paused",
    ),
    Rule(
        "batch size",
        "warn",
        lambda e: e.waiting >= 1 and e.running >= 0.97 * e.batch_limit,
        lambda e: f"{whole(e.running)} of {whole(e.batch_limit)} slots taken, {whole(e.waiting)} wait{_kv(e)}",
    ),
    Rule(
        "GPU power",
        "warn",
        _power_capped,
        lambda e: (
            f"GPU {e.gpu} at {percent(e.power_ratio)} of its power limit ({whole(e.power_w)} W), clock at"
            f" {percent(e.clock_ratio)} of its maximum{_pipes(e)}"
        ),
    ),
    Rule(
        "memory bandwidth",
        "ok",
        lambda e: e.dram_pct >= DRAM_BOUND_PCT and not e.tensor_pct >= e.dram_pct,
        lambda e: f"DRAM {whole(e.dram_pct)} % busy against tensor {whole(e.tensor_pct)} %: larger batches cost little",
    ),
    Rule(
        "compute",
        "ok",
        lambda e: e.tensor_pct >= TENSOR_BOUND_PCT,
        lambda e: (
            f"tensor pipes {whole(e.tensor_pct)} % busy against DRAM {whole(e.dram_pct)} %: larger batches only queue"
        ),
    ),
    Rule(
        "a growing queue",
        "warn",
        lambda e: e.waiting >= 2 and e.waiting_growth > 0.2 * e.waiting,
        lambda e: f"{e.waiting_growth:.0f} more wait than seconds ago, with {whole(e.running)} running{_kv(e)}",
    ),
    Rule(
        "too little load",
        "dim",
        lambda e: e.util_pct < BUSY_PCT and not e.waiting >= 1 and not e.running >= 8,
        lambda e: f"GPU {e.gpu} is {whole(e.util_pct)} % busy and nothing waits: the server could do more",
    ),
    Rule(
        "the host",
        "warn",
        lambda e: e.util_pct < 70 and e.running >= 8 and not e.waiting >= 1,
        lambda e: (
            f"{whole(e.running)} requests run, yet GPU {e.gpu} is only {whole(e.util_pct)} % busy: launch or CPU overhead"
        ),
    ),
    Rule(
        "the queue",
        "warn",
        lambda e: e.waiting >= 1,
        lambda e: f"{whole(e.waiting)} wait while {whole(e.running)} run{_kv(e)}",
    ),
    Rule(
        "too little load",
        "dim",
        lambda e: not e.util_pct >= 0 and e.waiting < 1,
        lambda e: f"nothing waits while {whole(e.running)} run: the server could take more",
    ),
)
"""Most certain first; a comparison with an unknown (NaN) never holds."""


def diagnose(snapshot: Snapshot) -> Diagnosis:
    """What limits now, or what the trial is doing that makes the question moot."""
    phase = snapshot.phase
    if snapshot.running is not None and phase is not None and phase.name in ("prepare", "start", "stop"):
        text = {"prepare": "the configuration is prepared", "start": "the server starts", "stop": "the server stops"}
        return Diagnosis("", text[phase.name], "dim")
    evidence = gather(snapshot)
    for rule in RULES:
        if rule.holds(evidence):
            return Diagnosis(rule.limit, rule.because(evidence), rule.tone)
    if evidence.util_pct != evidence.util_pct and evidence.running != evidence.running:
        return Diagnosis("", "neither GPUs nor the server say anything here", "dim")
    return Diagnosis("", _overview(evidence), "dim")


def gather(snapshot: Snapshot) -> Evidence:
    """The evidence at the moment looked at."""
    span_ns = SPAN_NS
    if snapshot.phase is not None:
        # What was before the phase, such as the idle time of a start, says nothing about it.
        span_ns = max(MIN_SPAN_NS, min(SPAN_NS, snapshot.at_ns - snapshot.phase.start_ns))
    gpu = max(snapshot.gpus, key=lambda gpu: _busy(gpu, span_ns), default=None)
    engine, load = snapshot.engine, snapshot.load

    def mean(track: Track | None, column: str) -> float:
        return NAN if track is None or track.stale else track.mean(column, span_ns)

    power_w, limit_w = mean(gpu, "power_w"), mean(gpu, "power_limit_w")
    clock, top_clock = mean(gpu, "sm_clock_mhz"), mean(gpu, "max_sm_clock_mhz")
    return Evidence(
        gpu=gpu.name.removeprefix("gpu") if gpu else "",
        util_pct=mean(gpu, "util_pct"),
        tensor_pct=mean(gpu, "tensor_active_pct"),
        dram_pct=mean(gpu, "dram_active_pct"),
        power_ratio=power_w / limit_w if limit_w else NAN,
        power_w=power_w,
        clock_ratio=clock / top_clock if top_clock else NAN,
        throttle_mask=gpu.value("throttle_mask") if gpu else NAN,
        kv_used_ratio=mean(engine, "kv_used_ratio"),
        running=mean(engine, "running"),
        waiting=mean(engine, "waiting"),
        waiting_growth=_growth(engine, "waiting", span_ns),
        paused=mean(engine, "paused"),
        batch_limit=mean(engine, "max_batch_size"),
        in_flight=mean(load, "in_flight"),
        client_lag_ms=load.value("client_lag_p99_ms") if load else NAN,
    )


def _busy(gpu: Track, span_ns: int) -> float:
    util = NAN if gpu.stale else gpu.mean("util_pct", span_ns)
    return util if util == util else -1.0


def _growth(track: Track | None, column: str, span_ns: int) -> float:
    """Mean of the later half of the span less that of the earlier half."""
    if track is None or track.stale:
        return NAN
    late = track.mean(column, span_ns // 2)
    return 2 * (late - track.mean(column, span_ns))


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


def _overview(evidence: Evidence) -> str:
    parts = [f"GPU {evidence.gpu} {whole(evidence.util_pct)} % busy"] if evidence.util_pct == evidence.util_pct else []
    if evidence.running == evidence.running:
        parts.append(f"{whole(evidence.running)} running")
        parts.append(f"{_zero(evidence.waiting)} waiting")
    return ", ".join(parts)
