"""The server in a few lines: KV cache, requests and batch, latencies against their limits, work done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.formatting import fit, number, percent, whole
from tui.glyphs import bar
from tui.track import NAN
from tui.utilisation import input_tps, mbu, mfu, output_tps
from tui.widgets.gpu_wall import history_text
from tui.widgets.lines import LineWidget, Piece, Row, row_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui.glyphs import Glyphs
    from tui.snapshot import SloFact, Snapshot
    from tui.track import Track

_LABEL = 10
_KV_WARN_RATIO = 0.95
_SLO_MET_WELL = 0.99
ROWS = 4
"""Rows of the panel where there is room for all of it."""

LATENCIES = (
    ("TTFT", "ttft", ("p50", "p99")),
    ("ITL", "itl", ("p50", "p99")),
    ("TPOT", "tpot", ("p50", "p99")),
    ("E2E", "e2e", ("p50", "p99")),
)


class ServerPanel(LineWidget):
    """KV-cache occupancy with its history, requests and batch occupancy, latencies of the last seconds."""

    DEFAULT_CSS = """
    ServerPanel { height: 3; }
    """

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """Three rows, and the work done where there is room for a fourth."""
        rows = [
            kv_row(snapshot, width, self.glyphs),
            requests_row(snapshot, width, self.glyphs),
            latency_row(snapshot, width, self.glyphs, alone=height < ROWS),
        ]
        if height >= ROWS:
            rows.append(work_row(snapshot, width))
        return rows if snapshot.fresh else [tuple((text, "dim") for text, _ in row) for row in rows]


def kv_row(snapshot: Snapshot, width: int, glyphs: Glyphs) -> Row:
    """Occupancy as a bar, capacity, hit rate, host tier, and the last minute."""
    engine = snapshot.engine
    if engine is None:
        return ((fit(" KV cache", _LABEL), "title"), ("the server tells nothing about its KV cache", "dim"))
    used, capacity = engine.value("kv_used_ratio"), engine.value("kv_capacity_tokens")
    cells = max(10, min(40, width // 5))
    ink = "warn" if used >= _KV_WARN_RATIO else "ok"
    pieces: list[Piece] = [
        (fit(" KV cache", _LABEL), "title"),
        (bar(glyphs, used, cells), ink),
        (f" {percent(used):>5}", "strong"),
    ]
    if capacity == capacity:
        pieces.append((f" of {number(capacity)} tokens", ""))
    for label, column in (("hit", "kv_hit_ratio"), ("host tier", "kv_host_used_ratio")):
        value = engine.value(column)
        if value == value:
            pieces.append((f"  {label} {percent(value)}", "dim"))
    return _with_history(pieces, engine, "kv_used_ratio", 1.0, width, glyphs)


def requests_row(snapshot: Snapshot, width: int, glyphs: Glyphs) -> Row:
    """Running against the batch limit as a bar, waiting, paused, and what the iteration holds."""
    engine, load = snapshot.engine, snapshot.load
    pieces: list[Piece] = [(fit(" requests", _LABEL), "title")]
    if engine is None:
        in_flight = load.value("in_flight") if load is not None else NAN
        return (*pieces, (f"{whole(in_flight)} in flight", ""), ("  the server tells no queue", "dim"))
    running, limit = engine.value("running"), engine.value("max_batch_size")
    cells = max(10, min(40, width // 5))
    pieces.append((bar(glyphs, running / limit if limit else NAN, cells), "first"))
    pieces.append((f" {whole(running):>5}", "strong"))
    pieces.append((f" of {whole(limit)} running" if limit == limit else " running", ""))
    waiting = engine.value("waiting")
    pieces.append((f"  {whole(waiting)} waiting", "warn" if waiting >= 1 else "dim"))
    paused = engine.value("paused")
    if paused == paused:
        pieces.append((f"  {whole(paused)} paused", "bad" if paused >= 1 else "dim"))
    prefill, decode = engine.value("context_requests"), engine.value("generation_requests")
    if decode == decode:
        pieces.append((f"  prefill {whole(prefill)} decode {whole(decode)}", "dim"))
    iteration = engine.value("iteration_ms")
    if iteration == iteration:
        pieces.append((f"  iteration {number(iteration)} ms", "dim"))
    return _cut(pieces, width)


def latency_row(snapshot: Snapshot, width: int, glyphs: Glyphs, *, alone: bool = True) -> Row:
    """Latency percentiles of the last seconds, coloured by their limits; throughput too where no row tells the work."""
    load = snapshot.load
    pieces: list[Piece] = [(fit(" latency", _LABEL), "title")]
    if load is None:
        watching = "not measured: watching sends no load"
        return (*pieces, (watching if snapshot.facts.watching else "nothing is measured yet", "dim"))
    for label, metric, stats in LATENCIES:
        values = [load.value(f"{metric}_{stat}_ms") for stat in stats]
        if any(value == value for value in values):
            pieces.append((f"{label} ", "dim"))
            for place, (stat, value) in enumerate(zip(stats, values, strict=True)):
                ink = _slo_ink(snapshot, metric, stat, value)
                pieces.append((f"{'/' if place else ''}{number(value)}", ink))
            pieces.append(("  ", ""))
    if len(pieces) == 1:
        return (*pieces, ("no request finished in the last seconds", "dim"))
    pieces.append(("ms p50/p99", "dim"))
    if alone:
        pieces.append((f"  {number(load.value('output_tps'))} tokens/s", ""))
        pieces += _requests(load)
    lag = load.value("client_lag_p99_ms")
    if lag == lag:
        pieces.append((f"  own lag {number(lag)} ms", "dim"))
    return _cut(pieces, width)


def work_row(snapshot: Snapshot, width: int) -> Row:
    """Tokens out and in, requests, the share that meets its limits, speculation, and how far the GPUs are used."""
    load, engine = snapshot.load, snapshot.engine
    pieces: list[Piece] = [
        (fit(" work", _LABEL), "title"),
        (f"{number(output_tps(snapshot))} tokens/s out", "strong"),
        (f"  {number(input_tps(snapshot))} in", ""),
    ]
    if load is not None:
        pieces += _requests(load)
        met = load.value("slo_met_ratio")
        if met == met:
            pieces.append((f"  {percent(met)} meet the SLOs", "ok" if met >= _SLO_MET_WELL else "warn"))
    accepted = engine.value("accepted_per_step") if engine is not None else NAN
    if accepted == accepted:
        pieces.append((f"  {number(accepted)} tokens accepted a step", ""))
    for label, value in (("MFU", mfu(snapshot)), ("MBU", mbu(snapshot))):
        if value == value:
            pieces.append((f"  {label} {percent(value)}", "dim"))
    return _cut(pieces, width)


def _requests(load: Track) -> list[Piece]:
    pieces: list[Piece] = [(f"  {number(load.value('request_rps'))} req/s", "dim")]
    failed = load.value("failed_total")
    if failed >= 1:
        pieces.append((f"  {whole(failed)} failed", "bad"))
    return pieces


def _slo_ink(snapshot: Snapshot, metric: str, stat: str, value: float) -> str:
    slo = next((slo for slo in snapshot.facts.objective.slos if (slo.metric, slo.stat) == (metric, stat)), None)
    if slo is None or value != value:
        return ""
    return "ok" if meets(slo, value) else "bad"


def meets(slo: SloFact, value: float) -> bool:
    """Whether a value satisfies a limit."""
    return value >= slo.value if slo.op in (">", ">=", "ge", "gt") else value <= slo.value


def _with_history(pieces: list[Piece], track: Track, column: str, top: float, width: int, glyphs: Glyphs) -> Row:
    room = width - row_cells(tuple(pieces)) - 3
    if room >= 12:
        pieces.append(("  " + history_text(track, column, top, min(room, 60), glyphs), "first"))
    return _cut(pieces, width)


def _cut(pieces: list[Piece], width: int) -> Row:
    """Whole pieces from the left, as many as fit."""
    kept: list[Piece] = []
    room = width
    for text, ink in pieces:
        cells = row_cells(((text, ink),))
        if cells > room:
            break
        kept.append((text, ink))
        room -= cells
    return tuple(kept)
