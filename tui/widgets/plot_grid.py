"""The plots of the live screen: TTFT, ITL, throughput, requests, KV cache; as many as the space allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.plotting import Plot, PlotSeries, plot_rows, side_by_side
from tui.track import SumView
from tui.widgets.lines import LineWidget, Row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tui.glyphs import Glyphs
    from tui.plotting import Envelopes
    from tui.snapshot import Snapshot
    from tui.track import Track

MIN_PLOT_CELLS = 26
MIN_PLOT_ROWS = 5
MOST_PLOTS = 8
"""Plots of the live screen where there is room for all."""

_GAP = 2
_INKS = ("first", "second", "third", "fourth")


class PlotGrid(LineWidget):
    """Several plots over one span of time, drawn as one widget."""

    DEFAULT_CSS = """
    PlotGrid { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._path: Path | None = None
        self._envelopes: Envelopes = {}

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """All plots that fit."""
        across, down = grid_shape(MOST_PLOTS, width, height)
        if snapshot.facts.path != self._path:
            self._path, self._envelopes = snapshot.facts.path, {}
        return grid_rows(live_plots(snapshot, across * down), width, height, self.glyphs, self._envelopes)


def grid_rows(plots: list[Plot], width: int, height: int, glyphs: Glyphs, kept: Envelopes | None = None) -> list[Row]:
    """Plots in the grid that suits the space; the last ones are left out when it is too small."""
    across, down = grid_shape(len(plots), width, height)
    rows: list[Row] = []
    for line in range(down):
        shown = plots[line * across : (line + 1) * across]
        if not shown:
            break
        # The columns of every line are those of the first, so that the same moment lies under itself.
        each = (width - _GAP * (across - 1)) // across
        tall = height * (line + 1) // down - height * line // down
        rows += side_by_side([plot_rows(plot, each, tall, glyphs, kept) for plot in shown], [each] * len(shown), _GAP)
    return rows


def grid_shape(plots: int, width: int, height: int) -> tuple[int, int]:
    """Plots across and down."""
    most_across = max(1, (width + _GAP) // (MIN_PLOT_CELLS + _GAP))
    most_down = max(1, height // MIN_PLOT_ROWS)
    if most_down == 1:
        return min(plots, most_across, 3), 1
    across = 3 if width >= 150 and plots > 4 else 2
    across = min(across, most_across, plots)
    return across, min(most_down, -(-plots // across))


def live_plots(snapshot: Snapshot, most: int = MOST_PLOTS) -> list[Plot]:
    """The plots of the live screen, most telling first; those that there is surely no room for are not made."""
    window_ns = snapshot.window_ns
    marks = tuple(
        trial.start_ns for trial in snapshot.trials if trial.number and window_ns[0] <= trial.start_ns <= snapshot.at_ns
    )
    load, engine = snapshot.load, snapshot.engine
    ttft, itl, tpot, e2e = (_limits(snapshot, metric) for metric in ("ttft", "itl", "tpot", "e2e"))
    idle = "nothing is measured yet" if load is None else "no request finished in this window"
    latency = [
        Plot(
            "TTFT ms",
            _lines(load, ("p99", "ttft_p99_ms"), ("p90", "ttft_p90_ms"), ("p50", "ttft_p50_ms")),
            window_ns,
            ttft,
            marks,
            empty=idle,
        ),
        # A limit belongs to the metric it was set for: TPOT takes the place of ITL when only TPOT has one.
        Plot(
            "TPOT ms", _lines(load, ("p99", "tpot_p99_ms"), ("p50", "tpot_p50_ms")), window_ns, tpot, marks, empty=idle
        )
        if tpot and not itl
        else Plot(
            "ITL ms", _lines(load, ("p99", "itl_p99_ms"), ("p50", "itl_p50_ms")), window_ns, itl, marks, empty=idle
        ),
    ]
    state = [
        Plot("output tokens/s", _throughput(load, engine), window_ns, (), marks),
        Plot(
            "requests",
            _lines(engine, ("waiting", "waiting"), ("running", "running"), ("paused", "paused")),
            window_ns,
            (),
            marks,
            empty="the server tells no queue",
        ),
        Plot(
            "KV cache %",
            _lines(engine, ("used", "kv_used_ratio"), ("hit", "kv_hit_ratio"), scale=100.0),
            window_ns,
            (),
            marks,
            top=100.0,
            empty="the server tells no KV cache",
        ),
    ]
    if snapshot.gpus:
        state.append(Plot("GPU power W", _power(snapshot.gpus), window_ns, (), marks))
    if engine is not None and most > len(latency) + len(state):
        prompts = PlotSeries("in", "second", *engine.rates("prompt_tokens_total"), heard=not engine.stale)
        state.append(Plot("prompt tokens/s", (prompts,), window_ns, (), marks))
    if load is not None:
        # Where a limit is set on it, it is one of the first things to look at.
        place = len(latency) if e2e else len(latency) + len(state)
        if place >= most:
            return latency + state
        e2e_lines = _lines(load, ("p99", "e2e_p99_ms"), ("p50", "e2e_p50_ms"))
        plots = [*latency, *state]
        return [*plots[:place], Plot("E2E ms", e2e_lines, window_ns, e2e, marks, empty=idle), *plots[place:]]
    # Latency is measured on our own load: where there is none, what the server tells comes first, and alone when watching.
    return state if snapshot.facts.watching else state + latency


def _lines(track: Track | None, *lines: tuple[str, str], scale: float = 1.0) -> tuple[PlotSeries, ...]:
    if track is None:
        return ()
    return tuple(
        PlotSeries(label, ink, *track.series(column, scale), heard=not track.stale)
        for (label, column), ink in zip(lines, _INKS, strict=False)
    )


def _throughput(load: Track | None, engine: Track | None) -> tuple[PlotSeries, ...]:
    if load is not None:
        return (PlotSeries("out", "first", *load.series("output_tps"), heard=not load.stale),)
    if engine is None:
        return ()
    return (PlotSeries("out", "first", *engine.rates("output_tokens_total"), heard=not engine.stale),)


def _power(gpus: tuple[Track, ...]) -> tuple[PlotSeries, ...]:
    """One line per GPU; of many, which could not be told apart, the sum."""
    if len(gpus) <= len(_INKS):
        return tuple(
            PlotSeries(gpu.name, ink, *gpu.series("power_w"), heard=not gpu.stale)
            for gpu, ink in zip(gpus, _INKS, strict=False)
        )
    columns = [gpu.series("power_w") for gpu in gpus]
    # GPUs are sampled together; when one is missing from a moment, the shortest series says how far the sum goes.
    times_ns = min((times for times, _ in columns), key=len)
    total = SumView([values for _, values in columns])
    return (PlotSeries(f"all {len(gpus)}", "first", times_ns, total, heard=not any(gpu.stale for gpu in gpus)),)


def _limits(snapshot: Snapshot, metric: str) -> tuple[float, ...]:
    return tuple(slo.value for slo in snapshot.facts.objective.slos if slo.metric == metric)
