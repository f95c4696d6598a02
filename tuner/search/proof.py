"""Proof: is the winner really better than the baseline, beyond the noise?

Baseline and finalists are run again, in turn, in the same round, so that a slow drift of the machine hits all of them. Of each
round the logarithm of the ratio of a finalist's score to the baseline's is taken; the mean of these over the rounds has a
confidence interval by Student's t (paired t-test on log ratios). With several finalists the intervals hold together: each is
taken at the confidence 1 - 0.05 / finalists (Bonferroni). Rounds end early only when the matter is settled at 99.9 % (Haybittle
and Peto), so that looking after every round costs the last look next to nothing. The measurement that made a configuration a
finalist is not used: it was chosen for being high.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sessions.batches import student_t

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95
EARLY_CONFIDENCE = 0.999
METHOD = "paired t-test on log ratios, baseline and finalists interleaved"
SEVERAL = ", Bonferroni over {count} finalists"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rounds proved.

    Attributes:
        gain: Gain over the baseline as a share of it; negative when worse.
        low: Lower end of the confidence interval of the gain; -inf with a single round.
        high: Upper end.
        rounds: How many pairs it rests on.
        proven: Whether the interval lies wholly above zero.
        text: The verdict in words.
    """

    gain: float
    low: float
    high: float
    rounds: int
    proven: bool
    text: str

    @property
    def settled(self) -> bool:
        """Whether the interval excludes zero, on either side."""
        return self.low > 0 or self.high < 0


def judge(
    pairs: Sequence[tuple[float, float]],
    direction: Literal["maximize", "minimize"],
    confidence: float = CONFIDENCE,
    *,
    finalists: int = 1,
) -> Verdict:
    """The verdict on pairs of (baseline score, finalist score), one pair a round.

    Args:
        pairs: The scores.
        direction: Which way is better.
        confidence: That all intervals hold together.
        finalists: How many finalists are judged so.

    Raises:
        ValueError: If there is no pair, or a score is not positive.
    """
    if not pairs:
        raise ValueError("a verdict needs at least one round")
    if any(baseline <= 0 or finalist <= 0 for baseline, finalist in pairs):
        raise ValueError("a verdict needs positive scores")
    sign = 1.0 if direction == "maximize" else -1.0
    logs = [sign * math.log(finalist / baseline) for baseline, finalist in pairs]
    mean = statistics.fmean(logs)
    half = math.inf
    if len(logs) > 1:
        own = 1 - (1 - confidence) / finalists
        half = student_t(own, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    gain, low, high = (_share(value, sign) for value in (mean, mean - half, mean + half))
    return Verdict(gain, low, high, len(pairs), low > 0, _words(gain, low, high, len(pairs), confidence))


def _share(log_ratio: float, sign: float) -> float:
    """A log ratio as a share of the baseline: of throughput gained, or of latency saved."""
    if math.isinf(log_ratio):
        return math.copysign(math.inf, log_ratio)
    return math.expm1(log_ratio) if sign > 0 else -math.expm1(-log_ratio)


def _words(gain: float, low: float, high: float, rounds: int, confidence: float) -> str:
    told = f"{gain:+.1%}, {confidence:.0%} interval {low:+.1%} to {high:+.1%}, {rounds} rounds"
    if rounds == 1:
        return f"not proven: {gain:+.1%} in a single round says nothing about the noise"
    if low > 0:
        return f"proven better than the baseline: {told}"
    if high < 0:
        return f"proven worse than the baseline: {told}"
    return f"not proven: the interval includes zero ({told})"
