"""The best configuration against the baseline: score, gain, latencies, and what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessions.text import clean_line
from tui.formatting import fit, fit_right, number, percent, shorten, value_text
from tui.snapshot import changed_params
from tui.trial_rows import baseline_params, metric_value, score_label
from tui.widgets.lines import LineWidget, Piece, Row, title_row, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.records import Trial
    from tui.glyphs import Glyphs
    from tui.snapshot import Snapshot

METRICS = (
    ("TTFT p50 ms", "ttft", "p50"),
    ("TTFT p99 ms", "ttft", "p99"),
    ("ITL p50 ms", "itl", "p50"),
    ("TPOT p99 ms", "tpot", "p99"),
    ("tokens/s", "output_token_throughput", "avg"),
    ("requests/s", "request_throughput", "avg"),
    ("goodput req/s", "goodput", "avg"),
)
"""Rows of the comparison; those without a number on either side are left out."""

_LABEL, _VALUE = 14, 10
_MIN_NAME = 12


class BestPanel(LineWidget):
    """Baseline and best, side by side."""

    DEFAULT_CSS = """
    BestPanel { height: 1fr; }
    """

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """As many rows as fit, most telling first."""
        return best_rows(snapshot, width, height, self.glyphs)


def best_rows(snapshot: Snapshot, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The comparison as rows."""
    best, baseline = snapshot.best, snapshot.baseline
    simulated: tuple[Piece, ...] = ((" simulated ", "warn"),) if snapshot.facts.simulated else ()
    rows: list[Row] = [title_row("best against baseline", width, glyphs, *simulated)]
    if best is None:
        return [*rows, ((shorten(_nothing_yet(snapshot), width), "dim"),)]
    head = fit("", _LABEL) + fit_right("baseline", _VALUE) + fit_right(f"trial {best.number}", _VALUE)
    rows.append(((fit(head, width), "dim"),))
    objective = snapshot.facts.objective
    label = shorten(score_label(objective), _LABEL - 1)
    gain = snapshot.gain_ratio(best) if best is not baseline else None
    score: Row = (
        (fit(label, _LABEL), "strong"),
        (fit_right(number(baseline.score if baseline else None), _VALUE), ""),
        (fit_right(number(best.score), _VALUE), "best"),
        (fit_right(_change(gain), _VALUE), "best" if gain is not None and gain > 0 else ""),
    )
    rows.append(score)
    if snapshot.facts.verdict and snapshot.at_ns >= snapshot.end_ns:
        rows += wrap(((snapshot.facts.verdict, "accent"),), width, indent=0)[: max(1, height // 5)]
    changes = _changes(snapshot, best, width)
    room = height - len(rows) - min(len(changes), max(1, height - len(rows) - 3))
    rows += _metric_rows(snapshot, best, baseline)[: max(0, room)]
    return (rows + changes)[:height]


def _change(ratio: float | None) -> str:
    return "" if ratio is None else percent(ratio, signed=True)


def _nothing_yet(snapshot: Snapshot) -> str:
    ended = [trial for trial in snapshot.trials if trial.end_ns is not None]
    if not ended:
        return "no trial has ended yet"
    missed = sum(trial.feasible is False for trial in ended)
    failed = sum(trial.state == "failed" for trial in ended)
    return f"nothing feasible in {len(ended)} trials: {missed} miss an SLO, {failed} failed"


def _metric_rows(snapshot: Snapshot, best: Trial, baseline: Trial | None) -> list[Row]:
    objective = snapshot.facts.objective
    rows: list[Row] = []
    for label, metric, stat in METRICS:
        ours = metric_value(best.result, metric, stat)
        theirs = metric_value(baseline.result, metric, stat) if baseline is not None else None
        if (ours is None and theirs is None) or (metric, stat) == (objective.metric, objective.stat):
            continue
        change = None if ours is None or not theirs or best is baseline else (ours - theirs) / theirs
        rows.append(
            (
                (fit(label, _LABEL), ""),
                (fit_right(number(theirs), _VALUE), "dim"),
                (fit_right(number(ours), _VALUE), ""),
                (fit_right(_change(change), _VALUE), "dim"),
            )
        )
    return rows


def _changes(snapshot: Snapshot, best: Trial, width: int) -> list[Row]:
    base = baseline_params(snapshot)
    changed = changed_params(best.params, base)
    if not changed:
        return [((shorten("the baseline is the best so far", width), "dim"),)]
    rows: list[Row] = []
    for name, value in changed.items():
        after = f" {clean_line(value_text(value))}"
        before = f"  was {clean_line(value_text(base[name]))}" if name in base else ""
        before = shorten(before, max(0, width - len(after) - _MIN_NAME))
        shown = shorten(clean_line(name), max(_MIN_NAME, width - len(after) - len(before)))
        rows.append(((shown, ""), (after, "accent"), (before, "dim")))
    return rows
