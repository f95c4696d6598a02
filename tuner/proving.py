"""The rounds of a proof: who runs next, and what came of it. Goes on where an earlier worker was killed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sessions.records import PROOF
from tuner.search.proof import EARLY_CONFIDENCE, METHOD, SEVERAL, judge

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sessions.records import Params, Trial
    from tuner.search.proof import Verdict

    Direction = Literal["maximize", "minimize"]

FEWEST_ROUNDS = 2
"""One round says nothing about the noise."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A configuration that takes part.

    Attributes:
        name: `baseline`, or `trial 7` after the trial that made it a finalist.
        trial: That trial.
        params: Its configuration.
        level: The load at which it was best: the only one that is measured again. None: it was never measured, and looks for
            its best load in every round.
    """

    name: str
    trial: int
    params: Params
    level: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """A contestant's part of a round.

    Attributes:
        trial: The trial that ran.
        score: Its score, or None.
        feasible: Whether every SLO was met.
    """

    trial: int
    score: float | None
    feasible: bool


@dataclass(slots=True)
class Proof:
    """Scores of baseline and finalists in turn.

    Attributes:
        contestants: The baseline first, then the finalists, the most promising first.
        since: Trials of the session from this number on belong to this proof.
        rounds: Whole rounds that count, each with a run of every contestant.
        current: The round under way.
    """

    contestants: tuple[Contestant, ...]
    since: int
    rounds: list[tuple[Run, ...]] = field(default_factory=list)
    current: dict[str, Run] = field(default_factory=dict)
    repeated: int = 0

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Proof | None:
        """The proof that a session tells of in its meta, without its rounds; None when there is none."""
        if not facts:
            return None
        contestants = tuple(
            Contestant(each["name"], each["trial"], dict(each["params"]), each["level"])
            for each in facts["contestants"]
        )
        return cls(contestants, facts["since"])

    def facts(self) -> dict[str, Any]:
        """The same for the session's meta."""
        return {"since": self.since, "contestants": [asdict(each) for each in self.contestants]}

    def replay(self, trials: Sequence[Trial], dropped: Collection[int]) -> None:
        """Take in what was run already.

        Args:
            trials: Trials of the session.
            dropped: Trials of rounds that were repeated because the machine had drifted.
        """
        for trial in trials:
            if (
                trial.kind != PROOF
                or trial.number < self.since
                or trial.state not in ("complete", "failed", "infeasible")
            ):
                continue
            who = next((each for each in self.contestants if each.params == trial.params), None)
            if who is None:
                continue
            self.tell(who, Run(trial.number, trial.score, bool(trial.feasible)))
            if not self.current and {run.trial for run in self.rounds[-1]} & set(dropped):
                self.drop_last()

    @property
    def finalists(self) -> tuple[Contestant, ...]:
        """Everyone but the baseline."""
        return self.contestants[1:]

    def next(self) -> Contestant:
        """Who runs next: the order turns round by round, so that nobody always comes first."""
        turn = (len(self.rounds) + self.repeated) % len(self.contestants)
        order = self.contestants[turn:] + self.contestants[:turn]
        return next(each for each in order if each.name not in self.current)

    def tell(self, who: Contestant, run: Run) -> None:
        """Take in a run; with the last one of a round the round counts."""
        self.current[who.name] = run
        if len(self.current) == len(self.contestants):
            self.rounds.append(tuple(self.current[each.name] for each in self.contestants))
            self.current = {}

    def drop_last(self) -> None:
        """Forget the last round: it is repeated."""
        self.rounds.pop()
        self.repeated += 1

    def over(self, rounds: int, direction: Direction) -> bool:
        """Whether enough rounds were run: all that were asked for, or as many as settle the matter beyond doubt."""
        if len(self.rounds) >= rounds:
            return True
        if len(self.rounds) < FEWEST_ROUNDS or self.current:
            return False
        judged = [self._judged(each, direction, EARLY_CONFIDENCE) for each in self.finalists]
        return all(each is not None and each.settled for each in judged)

    def verdict(self, direction: Direction) -> dict[str, Any]:
        """The verdict as the session keeps it: `text`, `proven`, `winner`, and the interval where there is one.

        `finalists` has the same for each of them.
        """
        told = [self._told(each, direction) for each in self.finalists]
        best = max(told, key=lambda each: (each["met"], each.get("gain", float("-inf"))))
        also = [f"{each['name']}: {each['text']}" for each in told if each is not best and len(self.finalists) > 1]
        method = METHOD + (SEVERAL.format(count=len(told)) if len(told) > 1 else "")
        whole = {**best, "winner": best["trial"], "method": method, "finalists": told, "repeated": self.repeated}
        whole["text"] = "; ".join([best["text"], *also])
        return whole

    def _told(self, who: Contestant, direction: Direction) -> dict[str, Any]:
        """What the rounds say of one finalist."""
        count, place = len(self.rounds), self.contestants.index(who)
        met = sum(each[place].feasible for each in self.rounds)
        baseline_met = sum(each[0].feasible for each in self.rounds)
        facts: dict[str, Any] = {"name": who.name, "trial": who.trial, "rounds": count, "met": met, "proven": False}
        if met < count or baseline_met < count:
            text = f"the baseline met every SLO in {baseline_met} of {count} rounds, {who.name} in {met}"
            text += "".join(self._without_result(each) for each in (self.contestants[0], who))
            return {**facts, "proven": baseline_met == 0 and met == count > 0, "text": text}
        verdict = self._judged(who, direction)
        if verdict is None:
            return {**facts, "text": "not proven: the repeated runs gave no scores"}
        finite = {name: value for name, value in asdict(verdict).items() if value not in (float("inf"), float("-inf"))}
        return {**facts, **finite}

    def _without_result(self, who: Contestant) -> str:
        """In how many rounds a contestant failed, as the end of a sentence; empty when in none."""
        place = self.contestants.index(who)
        failed = [run.trial for run in (each[place] for each in self.rounds) if run.score is None]
        return f"; {who.name} gave no result in trial {', '.join(map(str, failed))}" if failed else ""

    def _judged(self, who: Contestant, direction: Direction, confidence: float = 0.95) -> Verdict | None:
        """The verdict on a finalist; None where scores are missing, or taken at loads that do not count."""
        place = self.contestants.index(who)
        if not all(each[0].feasible and each[place].feasible for each in self.rounds):
            return None
        pairs = [(each[0].score, each[place].score) for each in self.rounds]
        known = [(one, other) for one, other in pairs if one is not None and other is not None and min(one, other) > 0]
        return judge(known, direction, confidence, finalists=len(self.finalists)) if known else None
