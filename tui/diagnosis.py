"""What limits the server at the moment looked at, and why: the rules of `sessions.bottleneck` over the last seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sessions.bottleneck import Evidence, limit_of
from sessions.clock import NS_PER_S
from tui.formatting import whole
from tui.track import NAN

if TYPE_CHECKING:
    from tui.snapshot import Snapshot, Tone
    from tui.track import Track

SPAN_NS = 10 * NS_PER_S
"""The past that a diagnosis looks at."""

MIN_SPAN_NS = 2 * NS_PER_S

_TONES: dict[str, Tone] = {
    "client": "bad",
    "heat": "bad",
    "decode_bandwidth": "ok",
    "prefill_compute": "ok",
    "load": "dim",
}
"""How a limit is shown; the others are warnings."""

_NOT_SERVING = {
    "prepare": "the configuration is prepared",
    "start": "the server starts",
    "build": "the engine is built, which trials that need the same one share",
    "reload": "the server takes new settings",
    "stop": "the server stops",
}
"""Phases of a trial in which nothing is served, in words."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What limits, in a word or two (empty: nothing does), and the evidence for it.

    Where the question is moot, since nothing is served or nothing is told, `evidence` says so and `moot` is set.
    """

    limit: str
    evidence: str
    tone: Tone
    moot: bool = False


def diagnose(snapshot: Snapshot) -> Diagnosis:
    """What limits now, or what the trial is doing that makes the question moot."""
    phase = snapshot.phase
    text = _NOT_SERVING.get(phase.name) if snapshot.running is not None and phase is not None else None
    if text is not None:
        return _moot(text)
    if snapshot.running is None and snapshot.trials:
        return _moot("no trial runs at this moment")
    evidence = gather(snapshot)
    if (rule := limit_of(evidence)) is not None:
        return Diagnosis(rule.limit, rule.because(evidence), _TONES.get(rule.kind, "warn"))
    if evidence.util_pct != evidence.util_pct and evidence.running != evidence.running:
        return _moot("neither GPUs nor the server say anything here")
    return Diagnosis("", _overview(evidence), "dim")


def _moot(text: str) -> Diagnosis:
    return Diagnosis("", text, "dim", moot=True)


def gather(snapshot: Snapshot) -> Evidence:
    """The evidence at the moment looked at."""
    span_ns = SPAN_NS
    if snapshot.phase is not None:
        # What was before the phase, such as the idle time of a start, says nothing about it.
        span_ns = max(MIN_SPAN_NS, min(SPAN_NS, snapshot.at_ns - snapshot.phase.start_ns))
    gpu = max(snapshot.own_gpus or snapshot.gpus, key=lambda gpu: _busy(gpu, span_ns), default=None)
    engine, load = snapshot.engine, snapshot.load

    def mean(track: Track | None, column: str) -> float:
        return NAN if track is None or track.stale else track.mean(column, span_ns)

    power_w, limit_w = mean(gpu, "power_w"), mean(gpu, "power_limit_w")
    clock, top_clock = mean(gpu, "sm_clock_mhz"), mean(gpu, "max_sm_clock_mhz")
    return Evidence(
        gpu=gpu.place if gpu else "",
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
        context_tokens=mean(engine, "context_tokens"),
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


def _overview(evidence: Evidence) -> str:
    parts = [f"GPU {evidence.gpu} {whole(evidence.util_pct)} % busy"] if evidence.util_pct == evidence.util_pct else []
    if evidence.running == evidence.running:
        parts.append(f"{whole(evidence.running)} running")
        parts.append(f"{whole(0.0 if evidence.waiting != evidence.waiting else evidence.waiting)} waiting")
    return ", ".join(parts)
