"""The rounds of a proof: who runs next, and what came of it. Goes on where an earlier worker was killed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sessions.records import PROOF
from tuner.search.proof import METHOD, judge
from tuner.search.study import BASELINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.records import Params, Trial
    from tuner.search.objective import Score

WINNER = "winner"
FEWEST_ROUNDS = 2
"""One round says nothing about the noise."""


@dataclass(slots=True)
class Proof:
    """Scores of baseline and winner in turn.

    Attributes:
        baseline: The baseline as the search measured it.
        finalist: The winner of the search.
        scores: By `baseline` and `winner`: score of each of its runs, None where there was none.
        feasible: By the same: how many of its runs met every SLO.
    """

    baseline: Trial
    finalist: Trial
    scores: dict[str, list[float | None]] = field(default_factory=lambda: {BASELINE: [], WINNER: []})
    feasible: dict[str, int] = field(default_factory=lambda: {BASELINE: 0, WINNER: 0})

    @classmethod
    def of(cls, trials: Sequence[Trial], winner: int | None) -> Proof | None:
        """The proof that a session needs; None when there is no winner other than the baseline.

        Args:
            trials: Trials of the session; those of an interrupted proof count.
            winner: Number of the best trial, or None.
        """
        baseline = next((trial for trial in trials if trial.kind == BASELINE and trial.end_ns is not None), None)
        finalist = next((trial for trial in trials if trial.number == winner), None)
        if baseline is None or finalist is None or finalist.kind == BASELINE:
            return None
        proof = cls(baseline, finalist)
        for trial in trials:
            if trial.kind == PROOF and trial.state in ("complete", "failed", "infeasible"):
                name = BASELINE if trial.params == baseline.params else WINNER
                proof._add(name, trial.score, feasible=bool(trial.feasible))
        return proof

    @property
    def rounds(self) -> int:
        """Whole rounds so far."""
        return min(len(scores) for scores in self.scores.values())

    def next(self) -> tuple[str, Params]:
        """Who runs next: whoever has run less; the order turns round by round, so that neither always comes first."""
        ahead = len(self.scores[BASELINE]) - len(self.scores[WINNER])
        first = BASELINE if self.rounds % 2 == 0 else WINNER
        name = first if ahead == 0 else WINNER if ahead > 0 else BASELINE
        return name, dict(self.baseline.params if name == BASELINE else self.finalist.params)

    def tell(self, name: str, score: Score | None) -> None:
        """Take in a run of `name`; None when it gave no score."""
        self._add(name, None if score is None else score.value, feasible=score is not None and score.feasible)

    def over(self, rounds: int, direction: Literal["maximize", "minimize"]) -> bool:
        """Whether enough rounds were run: all that were asked for, or as many as settle the matter."""
        if self.rounds >= rounds:
            return True
        pairs = self._pairs()
        return len(pairs) >= FEWEST_ROUNDS and self._comparable() and judge(pairs, direction).settled

    def verdict(self, direction: Literal["maximize", "minimize"]) -> dict[str, Any]:
        """The verdict as the session keeps it: `text`, `proven`, and the interval where there is one."""
        pairs = self._pairs()
        met = f"the winner met every SLO in {self.feasible[WINNER]} of {len(self.scores[WINNER])} rounds"
        if not pairs:
            return {"proven": False, "rounds": self.rounds, "text": "not proven: the repeated runs gave no scores"}
        if not self._comparable():
            text = f"the baseline met them in {self.feasible[BASELINE]} of {len(self.scores[BASELINE])}; {met}"
            proven = self.feasible[BASELINE] == 0 and self.feasible[WINNER] == len(self.scores[WINNER])
            return {"proven": proven, "rounds": self.rounds, "text": text}
        told = asdict(judge(pairs, direction))
        finite = {name: value for name, value in told.items() if value not in (float("inf"), float("-inf"))}
        return {**finite, "method": METHOD}

    def _add(self, name: str, score: float | None, *, feasible: bool) -> None:
        self.scores[name].append(score)
        self.feasible[name] += feasible

    def _pairs(self) -> list[tuple[float, float]]:
        paired = zip(self.scores[BASELINE], self.scores[WINNER], strict=False)
        return [(one, other) for one, other in paired if one is not None and other is not None and min(one, other) > 0]

    def _comparable(self) -> bool:
        """Whether both sides met the SLOs throughout: else the scores are taken at loads that do not count."""
        return all(self.feasible[name] == len(scores) for name, scores in self.scores.items())
