"""The lines at the top of every screen: what session this is, how far it is, and what limits the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessions.clock import NS_PER_S, covered_ns
from sessions.text import clean_line
from tui.diagnosis import diagnose
from tui.formatting import clock_text, fit_right, number, percent, shorten, span
from tui.widgets.lines import LineWidget, Piece, Row, row_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui.glyphs import Glyphs
    from tui.snapshot import Snapshot

SIMULATED = " SIMULATED "


class Header(LineWidget):
    """Session, server, SIMULATED where it is, and at the right whether the numbers are of now."""

    DEFAULT_CSS = """
    Header { height: 1; background: $panel; }
    """

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """One row."""
        return [header_row(snapshot, width, self.glyphs)]


class Strip(LineWidget):
    """Where the work stands: trial, phase, level, budget, best so far."""

    DEFAULT_CSS = """
    Strip { height: 1; }
    """

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """One row."""
        return [strip_row(snapshot, width, self.glyphs)]


class LimitLine(LineWidget):
    """What limits the server; or, when the numbers are old, that they are and what to do."""

    DEFAULT_CSS = """
    LimitLine { height: 1; }
    """

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """One row."""
        return [limit_row(snapshot, width)]


def header_row(snapshot: Snapshot, width: int, glyphs: Glyphs) -> Row:
    """Name and server at the left, badge, and the state at the right; the middle gives way first."""
    facts = snapshot.facts
    state = snapshot.state
    right: list[Piece] = []
    if facts.simulated:
        right.append((SIMULATED, "badge"))
    if snapshot.clock.pinned:
        right += [(f" {state.word} ", state.tone), (f"{clock_text(snapshot.at_ns)} ", "strong")]
    else:
        right += _replay_moment(snapshot, glyphs)
    name = facts.name or clean_line(facts.path.stem)
    left: list[Piece] = [(" trtune ", "title"), (f"{facts.kind or 'session'} ", "dim")]
    room = width - row_cells(tuple(left)) - row_cells(tuple(right))
    server = f" {glyphs.dot} ".join(
        part for part in (facts.engine, facts.model, "" if facts.watching else facts.workload) if part
    )
    if not server and facts.url:
        server = facts.url
    shown = shorten(name, max(0, room - 1))
    left.append((shown, "strong"))
    room -= len(shown)
    left.append((shorten(f" {glyphs.dot} {server}", room - 1) if server and room > 8 else "", "dim"))
    gap = width - row_cells(tuple(left)) - row_cells(tuple(right))
    return (*left, (" " * max(0, gap), ""), *right)


def _replay_moment(snapshot: Snapshot, glyphs: Glyphs) -> list[Piece]:
    clock = snapshot.clock
    moving = clock.playing and snapshot.at_ns < snapshot.end_ns
    sign = f"{glyphs.play} x{clock.speed:g}" if moving else glyphs.pause
    end = clock_text(snapshot.end_ns)
    told = f"{snapshot.state.word} {end}" if snapshot.state.live else end
    return [(f" REPLAY {sign} ", "accent"), (clock_text(snapshot.at_ns), "strong"), (f" / {told} ", "dim")]


def strip_row(snapshot: Snapshot, width: int, glyphs: Glyphs) -> Row:
    """Progress at the left, best so far at the right; the least wanted parts give way first."""
    parts = _progress(snapshot, glyphs)
    best = _best(snapshot, glyphs)
    kept: list[Piece] = list(parts[0])
    room = width - row_cells(parts[0]) - row_cells(best) - 1
    if room < 0:
        best = ()
        room = width - row_cells(parts[0])
    for part in parts[1:]:
        cells = row_cells(part)
        if cells > room:
            break
        kept += part
        room -= cells
    if not best:
        kept = [(shorten("".join(text for text, _ in kept), width), "")] if room < 0 else kept
    return (*kept, (" " * max(0, width - row_cells(tuple(kept)) - row_cells(best)), ""), *best)


def _progress(snapshot: Snapshot, glyphs: Glyphs) -> list[Row]:
    """Parts of the progress, most wanted first."""
    facts, trial = snapshot.facts, snapshot.running
    if trial is None and facts.watching:
        return [((f" {snapshot.worker.text if snapshot.worker is not None else 'watching'}", "strong"),)]
    if trial is None:
        done = len(snapshot.trials)
        text = f" {done} trial{'s' if done != 1 else ''}" if done else " no trial yet"
        worker = snapshot.worker.text if snapshot.worker is not None and snapshot.at_ns >= snapshot.end_ns else ""
        return [((text, "strong"),), ((f"  {worker}", "dim"),)]
    proving = trial.kind == "proof"
    counted = facts.budget_trials and trial.number < facts.budget_trials and not proving
    of = f"/{facts.budget_trials}" if counted else ""
    watching = trial.kind == "watch"
    name: Row = (
        ((" watching ", "strong"),) if watching else ((f" trial {trial.number}{of} ", "strong"), (trial.kind, ""))
    )
    parts = [name]
    if snapshot.side_by_side > 1:
        here = f", this one on {snapshot.lane}" if snapshot.lane else ""
        parts.append(((f" {glyphs.dot} {snapshot.side_by_side} trials side by side{here}", "accent"),))
    phase, level = snapshot.phase, snapshot.level
    if phase is not None:
        sign = "" if level is None else " concurrency" if level.kind == "concurrency" else " req/s"
        intensity = "" if level is None else f"{sign} {level.value:g}"
        since = span((snapshot.at_ns - phase.start_ns) / NS_PER_S)
        parts.append(((f" {glyphs.dot} {phase.name}{intensity}", "accent"), (f" {since}", "")))
    parts.append(((f" {glyphs.dot} trial {span((snapshot.at_ns - trial.start_ns) / NS_PER_S)}", "dim"),))
    if facts.budget_s and not watching and not proving:  # a proof is not limited by it
        left_s = max(0.0, facts.budget_s - _used_s(snapshot))
        parts.append(((f" {glyphs.dot} {span(left_s)} left", "dim"),))
    return parts


def _used_s(snapshot: Snapshot) -> float:
    """Seconds of the budget used by the moment looked at: the time of trials, as a worker counts it that goes on with a session.

    At the end of a session what its worker told last counts too, which knows of the time between trials.
    """
    at_ns = snapshot.at_ns
    used_ns = covered_ns(
        (trial.start_ns, at_ns if trial.end_ns is None else min(trial.end_ns, at_ns)) for trial in snapshot.trials
    )
    told_ns = max((trial.end_ns for trial in snapshot.all_trials if trial.end_ns is not None), default=0)
    if snapshot.facts.spent_s is None or told_ns > at_ns or snapshot.running is None:
        return used_ns / NS_PER_S
    since_ns = at_ns - max(told_ns, snapshot.running.start_ns)
    return max(used_ns, snapshot.facts.spent_s * NS_PER_S + since_ns) / NS_PER_S


def _best(snapshot: Snapshot, glyphs: Glyphs) -> Row:
    best = snapshot.best
    if best is None:
        return ()
    gain = snapshot.gain_ratio(best)
    told = f" {percent(gain, signed=True)}" if gain is not None and best.kind != "baseline" else ""
    unit = snapshot.facts.objective.unit
    return (
        (f"{glyphs.star} trial {best.number} ", "best"),
        (f"{number(best.score)} {unit}".rstrip(), "strong"),
        (f"{told} ", "best" if gain and gain > 0 else ""),
    )


def limit_row(snapshot: Snapshot, width: int) -> Row:
    """The diagnosis, unless the session has something more important to say about itself."""
    state = snapshot.state
    if not snapshot.fresh and state.tone in ("bad", "warn"):
        return ((fit_right(state.word, len(state.word) + 1) + "  ", state.tone), (shorten(state.text, width - 14), ""))
    if not snapshot.fresh and snapshot.running is None and snapshot.at_ns >= snapshot.end_ns:
        return ((" over  ", "dim"), (shorten(snapshot.facts.verdict or state.text, width - 8), ""))
    found = diagnose(snapshot)
    if found.moot:
        return ((" " + shorten(found.evidence, width - 1), found.tone),)
    head = f" limited by {found.limit} " if found.limit else " no single limit "
    return (
        (shorten(head, width), found.tone),
        (" " + shorten(found.evidence, max(0, width - len(head) - 2)), ""),
    )
