"""How many starts the search needs to come near the enumerated optimum, in virtual time on the simulated engine.

A run's curve is the share of the optimum that the configuration recommended after each start really reaches, without noise. The
search measures the levels of a start as the worker does with `load.find = "listed"`; the others, and the search with
`--every-level`, measure them lightest first until an SLO breaks.

Run: ``python -m benchmarks.tuner.run [--quick] [--seeds N] [--first-seed N] [--scenario NAME] [--arm NAME] [--every-level]
[--jobs N]``
"""

from __future__ import annotations

import argparse
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.tuner.arms import ARMS, Arm, make_search
from benchmarks.tuner.scenarios import SCENARIOS, Scenario
from benchmarks.tuner.surface import Incumbent, Start, Surface

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engines.knob import Value
    from tuner.search.search import Search

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one strategy on one scenario.

    Attributes:
        scenario: Its name.
        curve: After each start: the share of the optimum that the recommended configuration reaches.
        seconds: After each start: simulated time spent.
        failed: Starts that gave nothing.
    """

    scenario: str
    curve: tuple[float, ...]
    seconds: tuple[float, ...]
    failed: int

    def starts_to(self, share: float) -> float:
        """Starts until the recommendation reaches that share for the first time."""
        return next((float(place) for place, reached in enumerate(self.curve, 1) if reached >= share), NEVER)

    def seconds_to(self, share: float) -> float:
        """Simulated time until then."""
        return next((spent for reached, spent in zip(self.curve, self.seconds, strict=True) if reached >= share), NEVER)

    def after(self, starts: int) -> float:
        """Share reached after so many starts."""
        return self.curve[min(starts, len(self.curve)) - 1]


def run_once(arm: Arm, scenario: Scenario, seed: int) -> Run:
    """Search one scenario."""
    surface = Surface(scenario, seed, quirks=arm.quirks)
    search = make_search(arm, scenario, seed)
    curve: list[float] = []
    seconds: list[float] = []
    spent_s, failed, recommended = 0.0, 0, _Leader(arm, search)
    while len(curve) < arm.starts and (proposal := search.ask()) is not None:
        start = surface.start(proposal.params, recommended.incumbent, every_level=arm.every_level)
        search.tell(proposal, start.result)
        recommended.saw(proposal.params, start)
        spent_s += start.seconds
        failed += start.failed
        curve.append(surface.share(recommended.params()))
        seconds.append(spent_s)
    return Run(scenario.name, tuple(curve), tuple(seconds), failed)


def _runs_of(work: tuple[Arm, Scenario, Sequence[int]]) -> list[Run]:
    """All runs of a strategy on a scenario."""
    arm, scenario, seeds = work
    return [run_once(arm, scenario, seed) for seed in seeds]


class _Leader:
    """What a strategy recommends: ours by its belief, the others by the best measurement."""

    def __init__(self, arm: Arm, search: Search) -> None:
        self._own = arm.sampler == "roofline"
        self._search = search
        self._best: Mapping[str, Value] | None = None
        self.incumbent: Incumbent | None = None

    def saw(self, params: Mapping[str, Value], start: Start) -> None:
        value, result = start.result.value, start.result
        if value is None or result.violation > 0 or result.passed_gate is False:
            return
        if self.incumbent is None or self._search.objective.better(value, self.incumbent.value):
            self.incumbent, self._best = Incumbent(value, start.level), params

    def params(self) -> Mapping[str, Value] | None:
        if not self._own:
            return self._best
        best = self._search.best()
        return best.params if best else None


HEAD = """\
| strategy | starts to 5 % | to 2 % | after 6 | after 12: median | worst tenth | end | failed starts | minutes to 2 % |
|---|---|---|---|---|---|---|---|---|"""


def row(arm: Arm, runs: Sequence[Run]) -> str:
    """The bars' figures of one strategy."""
    after = sorted(run.after(12) for run in runs)
    cells = [
        f"{arm.name} ({arm.starts} x {len(runs)})",
        _count(statistics.median(run.starts_to(0.95) for run in runs)),
        _count(statistics.median(run.starts_to(0.98) for run in runs)),
        f"{statistics.median(run.after(6) for run in runs):.1%}",
        f"{statistics.median(after):.1%}",
        f"{after[len(after) // 10]:.1%}",
        f"{statistics.median(run.curve[-1] for run in runs):.1%}",
        f"{sum(run.failed for run in runs) / sum(len(run.curve) for run in runs):.1%}",
        _count(statistics.median(run.seconds_to(0.98) for run in runs) / 60),
    ]
    return f"| {' | '.join(cells)} |"


def scenario_table(runs: Sequence[Run]) -> str:
    """One row per scenario, for one strategy."""
    lines = ["| scenario | starts to 5 % | to 2 % | after 12: median | worst |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(run.scenario for run in runs):
        own = [run for run in runs if run.scenario == name]
        cells = [
            name,
            _count(statistics.median(run.starts_to(0.95) for run in own)),
            _count(statistics.median(run.starts_to(0.98) for run in own)),
            f"{statistics.median(run.after(12) for run in own):.1%}",
            f"{min(run.after(12) for run in own):.1%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _count(value: float) -> str:
    return "never" if value == NEVER else f"{value:g}" if value == int(value) else f"{value:.1f}"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 seeds, the search itself and TPE only")
    parser.add_argument("--seeds", type=int, help="runs of each scenario (default: each strategy's own number)")
    parser.add_argument("--scenario", action="append", default=[])
    parser.add_argument("--arm", action="append", default=[])
    parser.add_argument("--first-seed", type=int, default=0, help="for runs that nothing was judged by before")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--every-level", action="store_true", help="measure the levels of a start until an SLO breaks")
    options = parser.parse_args()
    arms = [arm for arm in ARMS if not options.arm or arm.name in options.arm]
    if options.every_level:
        arms = [replace(arm, every_level=True) for arm in arms]
    if options.quick and not options.arm:
        arms = [arm for arm in ARMS if not arm.quirks and arm.sampler in ("roofline", "tpe") and arm.filtered]
    scenarios = [each for each in SCENARIOS if not options.scenario or each.name in options.scenario]
    by_scenario: list[str] = []
    print(f"{len(scenarios)} scenarios; in brackets: starts of a run x runs\n\n{HEAD}", flush=True)
    for arm in arms:
        seeds = range(options.first_seed, options.first_seed + (options.seeds or (2 if options.quick else arm.seeds)))
        work = [(arm, scenario, seeds) for scenario in scenarios]
        if options.jobs > 1:
            with ProcessPoolExecutor(options.jobs) as pool:
                parts = list(pool.map(_runs_of, work))
        else:
            parts = [_runs_of(each) for each in work]
        runs = [run for part in parts for run in part]
        print(row(arm, runs), flush=True)
        by_scenario.append(f"\n{arm.name}, by scenario\n\n{scenario_table(runs)}")
    print("\n".join(by_scenario))


if __name__ == "__main__":
    main()
