"""The outcome of a session in a few values: baseline, best, gain."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sessions.records import PROOF

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sessions.records import Trial

BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of the trials so far.

    Attributes:
        baseline: The baseline trial, or None.
        best: The best trial that meets every SLO, or None.
        gain: By which share of the baseline the best is better; None when one of them has no score.
        states: How many trials are in each state.
    """

    baseline: Trial | None
    best: Trial | None
    gain: float | None
    states: Mapping[str, int]


def summarise_session(trials: Sequence[Trial], meta: Mapping[str, Any]) -> Summary:
    """The outcome of a session's trials: the winner of its proof, when there was one, is the best."""
    objective, verdict = meta.get("objective"), meta.get("verdict")
    winner = verdict.get("winner") if isinstance(verdict, dict) else None
    return summarise_trials(
        trials,
        objective if isinstance(objective, dict) else {},
        winner=winner if isinstance(winner, int) else None,
    )


def summarise_trials(trials: Sequence[Trial], objective: Mapping[str, Any], *, winner: int | None = None) -> Summary:
    """The outcome of trials under an objective (`direction`: `maximize` or `minimize`).

    A trial that breaks an SLO can be the baseline and never the best.

    Args:
        trials: All of them.
        objective: As the session keeps it.
        winner: Number of the trial that a proof found to be the best; it is taken before one that merely scored higher once.
    """
    maximize = objective.get("direction") != "minimize"
    baseline = baseline_of(trials)
    best = best_of(trials, maximize=maximize, winner=winner)
    gain = None
    if baseline is not None and best is not None and baseline.score and best.score is not None:
        gain = gain_over(best.score, baseline.score, maximize=maximize)
    return Summary(baseline, best, gain, Counter(trial.state for trial in trials))


def baseline_of(trials: Sequence[Trial]) -> Trial | None:
    """The baseline that others are compared with: of starts that were tried again the one that was measured, else the first."""
    baselines = [trial for trial in trials if trial.kind == BASELINE and trial.end_ns is not None]
    return next((trial for trial in baselines if trial.score is not None), baselines[0] if baselines else None)


def best_of(trials: Sequence[Trial], *, maximize: bool, winner: int | None = None) -> Trial | None:
    """The best trial that meets every SLO: the winner of a proof, where it is among them, before one that merely scored higher."""
    best: Trial | None = None
    for trial in trials:
        if may_be_best(trial):
            if trial.number == winner:
                return trial
            if best is None or is_better(trial.score, best.score, maximize=maximize):
                best = trial
    return best


def may_be_best(trial: Trial) -> bool:
    """Whether a trial can be the best one: it has a score, meets every SLO, and is no repeat of another one for a proof."""
    return trial.score is not None and bool(trial.feasible) and trial.kind != PROOF


def is_better(one: float | None, other: float | None, *, maximize: bool) -> bool:
    """Whether the first score is strictly better; a missing or NaN one never is."""
    if one is None or math.isnan(one):
        return False
    if other is None or math.isnan(other):
        return True
    return one > other if maximize else one < other


def gain_over(score: float, baseline: float, *, maximize: bool) -> float:
    """By which share of the baseline a score is better; negative when worse, NaN when the baseline is 0."""
    if baseline == 0:
        return math.nan
    share = score / baseline - 1
    return share if maximize else 0.0 - share  # not -0.0
