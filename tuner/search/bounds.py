"""What a configuration can still reach at loads that were not measured yet: the reason to go on with a trial, or to leave it.

In a closed loop more requests at a time never make throughput grow faster than their number, and never make a latency shorter. So
what was measured at one level bounds the others. The bounds are widened by the uncertainty of the measurements they rest on. A
lighter load gives more throughput only where the heavier one overwhelms the server, and for that the bounds leave room.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

from sessions.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.slo import Slo
    from tuner.search.levels import Measured
    from tuner.search.objective import Objective

USUAL_UNCERTAINTY: Final = 0.03
"""Taken for a level whose interval is not known."""

OVERWHELMED: Final = 1.25
"""By which factor a lighter load may do better than a heavier one that a server cannot cope with; on the simulated engine: 1.15."""

GROWING: Final = frozenset(
    {
        "output_token_throughput",
        "input_token_throughput",
        "total_token_throughput",
        "request_throughput",
        "output_token_throughput_per_gpu",
        "total_token_throughput_per_gpu",
    }
)
"""Grow with the load, at most in proportion to it."""

SHRINKING: Final = frozenset(
    {"cost_per_million_output_tokens", "cost_per_million_total_tokens", "energy_per_output_token"}
)
"""Shrink with the load, at most in inverse proportion to it: so much work is spread over more tokens."""

WORSENING: Final = frozenset({"ttft", "itl", "icl", "tpot", "e2e", "output_token_throughput_per_user"})
"""Only get worse with the load."""


def eased_by_load(slo: Slo) -> bool:
    """Whether a heavier load helps to meet a limit."""
    return (slo.metric in GROWING and slo.op in (">=", ">")) or (slo.metric in SHRINKING and slo.op in ("<=", "<"))


def best_still_possible(objective: Objective, measured: Sequence[Measured], lightest: float, heaviest: float) -> float:
    """The best value that a configuration can still reach, at a level measured or not, in a closed loop.

    Args:
        objective: What counts as better.
        measured: Its levels so far.
        lightest: The lightest load that will be tried.
        heaviest: The heaviest one.

    Returns:
        An optimistic bound: above every reachable value to be maximised, below every one to be minimised. Infinite where
        nothing is known.
    """
    maximise = objective.direction == "maximize"
    unknown = math.inf if maximise else -math.inf
    known = [each for each in measured if each.met]
    pick, law = (max, GROWING) if maximise else (min, SHRINKING)
    broken = [each for each in measured if each.too_heavy and each.score is not None]
    if not known:
        if objective.metric not in law or not broken:
            return unknown
        # All that is left is lighter than what was too heavy.
        return _at_lighter(min(broken, key=lambda each: each.value), maximise=maximise)
    best = pick(_optimistic(each, maximise=maximise) for each in known)
    if objective.metric in WORSENING and maximise == (METRICS[objective.metric].better == "higher"):
        return best if min(each.value for each in measured) <= lightest else unknown
    if objective.metric not in law:
        return unknown
    ceiling = min([heaviest, *(each.value for each in measured if each.too_heavy)])
    reachable = [_at(each, ceiling, maximise=maximise) for each in known]
    return pick(best, min(reachable) if maximise else max(reachable))


def worth_going_on(
    objective: Objective, measured: Sequence[Measured], lightest: float, heaviest: float, incumbent: float
) -> Literal["yes", "hopeless", "done"]:
    """Whether a further level is worth measuring, in a closed loop.

    Args:
        objective: What counts as better.
        measured: The trial's levels so far.
        lightest: The lightest load that will be tried.
        heaviest: The heaviest one.
        incumbent: The best value of another trial.

    Returns:
        `hopeless` when nothing it can still reach beats the incumbent, `done` when nothing beats what it has reached itself.
    """
    bound = best_still_possible(objective, measured, lightest, heaviest)
    if not objective.better(bound, incumbent):
        return "hopeless"
    own = [each.score for each in measured if each.met and each.score is not None]
    best = (max if objective.direction == "maximize" else min)(own, default=None)
    return "yes" if best is None or objective.better(bound, best) else "done"


def _optimistic(level: Measured, *, maximise: bool) -> float:
    """A level's objective at the better end of its interval."""
    assert level.score is not None
    share = level.uncertainty if level.uncertainty is not None else USUAL_UNCERTAINTY
    return level.score * (1 + share if maximise else 1 - share)


def _at_lighter(level: Measured, *, maximise: bool) -> float:
    """What a level that was too heavy promises at best for a lighter load."""
    value = _optimistic(level, maximise=maximise)
    return value * OVERWHELMED if maximise else value / OVERWHELMED


def _at(level: Measured, ceiling: float, *, maximise: bool) -> float:
    """What a level promises at best for a load up to the ceiling."""
    stretch = max(ceiling / level.value, 1.0)
    value = _optimistic(level, maximise=maximise)
    return value * stretch if maximise else value / stretch
