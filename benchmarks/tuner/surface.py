"""A scenario as something that can be started and measured: the enumeration, with noise and, if wanted, hidden quirks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.tuner.enumeration import (
    FAILED_START_S,
    LEVEL_S,
    OUT_OF_MEMORY,
    REFUSED,
    STARTED,
    UNSUPPORTED,
    Truth,
    load_truth,
    measure_level,
    metrics_of,
)
from benchmarks.tuner.scenarios import BATCH, CHUNKED, FRACTION, PER_GPU, PER_USER, PP, SCENARIOS, TOKENS, TP, VARIANT
from tuner.search.bounds import eased_by_load, worth_going_on
from tuner.search.levels import HighestListed, ListedLevels, Measured
from tuner.search.objective import score_levels
from tuner.search.search import Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from benchmarks.tuner.scenarios import Scenario
    from engines.knob import Value
    from sessions.records import Metrics
    from tuner.search.objective import Objective

NOISE: Final = 0.03
"""Standard deviation of a measurement, relative."""

FLAKY: Final = 0.02
"""Share of starts that fail for no reason of theirs; only with quirks."""

_FAILING_PAIRS: Final = 2
_SLOW_PAIRS: Final = 4
_SLOWEST: Final = (0.7, 0.9)
_ACCUSES: Final[Mapping[int, tuple[str, ...]]] = {
    OUT_OF_MEMORY: (FRACTION, TOKENS, BATCH, TP),
    REFUSED: (CHUNKED, TOKENS),
    UNSUPPORTED: (VARIANT,),
}
_WORDS: Final = {OUT_OF_MEMORY: "out of memory", REFUSED: "prompts are refused", UNSUPPORTED: "unsupported on this GPU"}
_HIDDEN = 9
"""Status of a configuration that a hidden quirk keeps from starting."""


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The best that was measured so far: its value, and the level at which it was reached where levels were looked for."""

    value: float
    level: float | None


@dataclass(frozen=True, slots=True)
class Start:
    """What one start gave, what it cost, and the level that decided where levels were looked for."""

    result: Result
    seconds: float
    level: float | None = None

    @property
    def failed(self) -> bool:
        """Whether the start was in vain."""
        return self.result.value is None


def _key(params: Mapping[str, Value], names: tuple[str, ...]) -> tuple[Value, ...]:
    return tuple(params.get(name) for name in names)


def _scaled(metrics: Metrics, objectives: Sequence[Objective], factor: float) -> Metrics:
    """Metrics with those that are objectives scaled."""
    scaled = {each.metric: {each.stat: metrics[each.metric][each.stat] * factor} for each in objectives}
    return {**metrics, **scaled}


@cache
def _grid(name: str) -> tuple[list[dict[str, Value]], dict[tuple[Value, ...], int]]:
    """A scenario's configurations and their places; the same for every seed."""
    scenario = next(each for each in SCENARIOS if each.name == name)
    rows = list(scenario.configurations())
    names = tuple(scenario.values())
    return rows, {_key(row, names): place for place, row in enumerate(rows)}


class Surface:
    """One scenario under one seed."""

    def __init__(self, scenario: Scenario, seed: int, *, quirks: bool) -> None:
        """Draw the quirks and find the best that is left."""
        self.scenario = scenario
        self._names = tuple(scenario.values())
        self._rows, self._places = _grid(scenario.name)
        self._rng = np.random.default_rng((seed, 11))
        truth = load_truth(scenario)
        self._factor = np.ones(len(self._rows))
        self._truth = self._with_quirks(truth, np.random.default_rng((seed, 5))) if quirks else truth
        self._flaky = FLAKY if quirks else 0.0
        self._passes = np.array([row.get(VARIANT, scenario.models[0]) not in scenario.gate_fails for row in self._rows])
        wins = (self._truth.status == STARTED) & (self._truth.violation == 0) & self._passes
        reached = self._truth.value[wins]
        self.optimum = float(reached.max() if scenario.objective.direction == "maximize" else reached.min())

    def start(
        self, params: Mapping[str, Value], incumbent: Incumbent | None = None, *, every_level: bool = True
    ) -> Start:
        """Start and measure a configuration.

        Args:
            params: The configuration.
            incumbent: The best so far.
            every_level: Whether the levels are measured lightest first until an SLO breaks; else as with `load.find = "listed"`:
                from the incumbent's level, until the configuration is known to be worse than the incumbent, or at its best;
                all of them while there is no incumbent, as of a baseline.
        """
        place = self._started(params)
        if isinstance(place, Result):
            return Start(place, FAILED_START_S)
        if self._rng.random() < self._flaky:
            return Start(Result.failed("port in use", infeasible=False), FAILED_START_S)
        noise = float(np.exp(self._rng.normal(0, NOISE)))
        gate = self._passes_gate(place)
        start_s = float(self._truth.start_s[place])
        if every_level or len(self.scenario.levels) == 1:
            value = float(self._truth.value[place]) * noise
            seconds = start_s + LEVEL_S * float(self._truth.levels[place])
            return Start(Result(value, float(self._truth.violation[place]), gate), seconds)
        measured = self._find_level(place, incumbent, noise)
        best = score_levels(self.scenario.objective, [metrics for _, metrics in measured])
        if best.value is None or best.level is None:
            return Start(Result(None, 1.0, gate, "no level gave a result", infeasible=False), start_s)
        found = Result(best.value * noise, best.violation, gate)
        return Start(found, start_s + LEVEL_S * len(measured), measured[best.level][0])

    def start_several(self, params: Mapping[str, Value], objectives: Sequence[Objective]) -> Result:
        """Start a configuration and measure it at every level, for several objectives."""
        place = self._started(params)
        if isinstance(place, Result):
            return place
        noise = float(np.exp(self._rng.normal(0, NOISE)))
        noisy = [_scaled(metrics, objectives, noise) for metrics in self._every_level(place)]
        return Result.of_levels(objectives, noisy, self._passes_gate(place))

    def points(self, params: Mapping[str, Value]) -> NDArray[np.float64]:
        """Throughput per GPU and speed per user that a configuration really reaches, a row per level; none if it cannot be used."""
        place = self._places.get(self._key(params))
        if place is None or self._truth.status[place] != STARTED or not self._passes[place]:
            return np.empty((0, 2))
        rows = [(each[PER_GPU]["avg"], each[PER_USER]["p50"]) for each in self._every_level(place)]
        return np.array(rows).reshape(len(rows), 2)

    def _started(self, params: Mapping[str, Value]) -> int | Result:
        """Place of a configuration that starts; of another one what it comes to."""
        place = self._places.get(self._key(params))
        if place is None:
            # The engine says that it cannot work: only a search without the filter gets here.
            return Result.failed("settings conflict")
        status = int(self._truth.status[place])
        if status != STARTED:
            return Result.failed(_WORDS.get(status, "internal error"), _ACCUSES.get(status, ()))
        return place

    def _passes_gate(self, place: int) -> bool | None:
        """What the quality gate says; None where there is nothing to alter."""
        return bool(self._passes[place]) if len(self.scenario.models) > 1 else None

    def _every_level(self, place: int) -> list[Metrics]:
        """What a configuration really comes to at the levels whose prompts it takes."""
        levels = (self.metrics(place, level) for level in range(len(self.scenario.levels)))
        return [metrics for metrics in levels if metrics is not None]

    def _find_level(self, place: int, incumbent: Incumbent | None, noise: float) -> list[tuple[float, Metrics]]:
        """Measure levels one by one from the incumbent's, as the worker does."""
        objective, levels = self.scenario.objective, tuple(float(level) for level in self.scenario.levels)
        chooser = ListedLevels(levels) if incumbent is None else HighestListed(levels, incumbent.level)
        found: list[tuple[float, Metrics]] = []
        seen: list[Measured] = []
        while (level := chooser.next(seen)) is not None:
            if seen and incumbent is not None:
                verdict = worth_going_on(objective, seen, levels[0], levels[-1], incumbent.value)
                if verdict != "yes":
                    break
            metrics = self.metrics(place, levels.index(level))
            if metrics is None:
                break
            found.append((level, metrics))
            value, broken = objective.value(metrics), objective.worst_broken(metrics)
            seen.append(
                Measured(
                    level,
                    None if value is None else value * noise,
                    objective.violation(metrics),
                    broken is not None and eased_by_load(broken),
                )
            )
        return found

    def metrics(self, place: int, level: int) -> Metrics | None:
        """What a configuration really comes to at a level, both by their places; None when its prompts are refused."""
        params, truth = self._rows[place], self._truth
        if truth.results is None or truth.of_level is None:
            metrics = measure_level(self.scenario, params, self.scenario.levels[level])
        else:
            row = truth.results[truth.of_level[place, level]]
            gpus = int(str(params[TP])) * int(str(params[PP]))
            metrics = None if np.isnan(row).any() else metrics_of(self.scenario, gpus, row)
        factor = float(self._factor[place])
        if metrics is None or factor == 1.0:
            return metrics
        name, stat = self.scenario.objective.metric, self.scenario.objective.stat
        return {**metrics, name: {**metrics[name], stat: metrics[name][stat] * factor}}

    def share(self, params: Mapping[str, Value] | None) -> float:
        """Which share of the optimum a configuration really reaches; 0 when it fails, breaks an SLO or the gate."""
        place = None if params is None else self._places.get(self._key(params))
        if place is None or self._truth.status[place] != STARTED or self._truth.violation[place] > 0:
            return 0.0
        if not self._passes[place]:
            return 0.0
        value = float(self._truth.value[place])
        return value / self.optimum if self.scenario.objective.direction == "maximize" else self.optimum / value

    def statuses(self) -> NDArray[np.int64]:
        """What becomes of each configuration of the grid when it is started."""
        return self._truth.status

    def neighbours_of_optimum(self) -> list[dict[str, Value]]:
        """Configurations that work and differ from the best one in a single knob."""
        shares = np.array([self.share(row) for row in self._rows])
        best = self._rows[int(shares.argmax())]
        return [
            row
            for row, status in zip(self._rows, self._truth.status, strict=True)
            if status == STARTED and sum(row[name] != best[name] for name in self._names) == 1
        ]

    def _key(self, params: Mapping[str, Value]) -> tuple[Value, ...]:
        return _key(params, self._names)

    def _with_quirks(self, truth: Truth, rng: np.random.Generator) -> Truth:
        """Pairs of values that do not start, and pairs that are slower by 10 to 30 %."""
        status = truth.status.copy()
        maximised = self.scenario.objective.direction == "maximize"
        for _ in range(_SLOW_PAIRS):
            factor = rng.uniform(*_SLOWEST)
            slowed = self._pair(rng)
            self._factor[slowed] *= factor if maximised else 1 / factor
        for _ in range(_FAILING_PAIRS):
            broken = self._pair(rng)
            status[broken & (status == STARTED)] = _HIDDEN
        return replace(truth, value=truth.value * self._factor, status=status)

    def _pair(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Configurations that share two values drawn at random."""
        values = self.scenario.values()
        names = [name for name in self._names if len(values[name]) > 1]
        one, other = (names[place] for place in rng.permutation(len(names))[:2])
        chosen = {name: values[name][int(rng.integers(len(values[name])))] for name in (one, other)}
        return np.array([all(row[name] == value for name, value in chosen.items()) for row in self._rows])
