"""MFU and MBU at the moment looked at, from counted tokens, the model's shape and the GPUs' data sheets.

MFU: multiplications and additions of the tokens computed, against the dense BF16 peak of all GPUs. MBU: weights and the KV
cache in use, read once an iteration, against the peak memory bandwidth of all GPUs. Both leave out what a server does beyond that.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING

from sessions.clock import NS_PER_S
from tui.track import NAN

if TYPE_CHECKING:
    from tui.snapshot import Snapshot
    from tui.track import Track

FLOPS_PER_PARAMETER = 2.0
"""One multiplication and one addition per parameter and token."""

MIN_ITERATION_MS = 0.05
RATE_SPAN_NS = 4 * NS_PER_S
"""The past over which a counter's growth is taken."""


def input_tps(snapshot: Snapshot) -> float:
    """Prompt tokens per second over the last seconds, from the server's counter."""
    return _rate(snapshot.engine, "prompt_tokens_total")


def output_tps(snapshot: Snapshot) -> float:
    """Output tokens per second: as we received them under load, else from the server's counter."""
    load = snapshot.load.value("output_tps") if snapshot.load is not None else NAN
    return load if load == load else _rate(snapshot.engine, "output_tokens_total")


def mfu(snapshot: Snapshot) -> float:
    """Model FLOPs utilisation, 0..1; NaN where something is not known."""
    shape = snapshot.facts.shape
    peak = sum(_info(gpu, "peak_flops_s") for gpu in snapshot.own_gpus)
    tokens = output_tps(snapshot) + max(0.0, input_tps(snapshot))
    if shape is None or not peak > 0:
        return NAN
    return FLOPS_PER_PARAMETER * shape.active_parameters * tokens / peak


def mbu(snapshot: Snapshot) -> float:
    """Memory bandwidth utilisation, 0..1; NaN where something is not known."""
    shape, engine = snapshot.facts.shape, snapshot.engine
    peak = sum(_info(gpu, "peak_bytes_s") for gpu in snapshot.own_gpus)
    if shape is None or engine is None or not peak > 0:
        return NAN
    iteration_ms = engine.value("iteration_ms")
    in_use_tokens = engine.value("kv_used_ratio") * engine.value("kv_capacity_tokens")
    if not iteration_ms >= MIN_ITERATION_MS:
        return NAN
    read_bytes = shape.weight_bytes + in_use_tokens * shape.kv_bytes_per_token
    return read_bytes / (iteration_ms / 1000) / peak


def _rate(track: Track | None, column: str) -> float:
    """Growth per second of a counter over the last seconds; NaN across a restart, which makes it fall."""
    place = track.columns.get(column) if track is not None else None
    if track is None or place is None or track.stale:
        return NAN
    first = max(0, bisect_left(track.times_ns, track.at_ns - RATE_SPAN_NS))
    told = [(sample.t_ns, sample.values[place]) for sample in track.samples[first:]]
    told = [(t_ns, value) for t_ns, value in told if value == value and t_ns >= track.since_ns]
    if len(told) < 2 or told[-1][1] < told[0][1]:
        return NAN
    return (told[-1][1] - told[0][1]) / ((told[-1][0] - told[0][0]) / NS_PER_S)


def _info(gpu: Track, key: str) -> float:
    value = gpu.info.get(key)
    told = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else NAN
    return told if math.isfinite(told) else NAN
