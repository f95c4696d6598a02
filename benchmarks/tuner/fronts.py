"""How much of the enumerated front the search finds with two objectives: throughput per GPU against speed per user, without SLOs.

Every level of a configuration is a point. After each start the front that the search reports is taken, and the points that its
configurations really reach, without noise, cover a share of the area under the enumerated front. The area begins a tenth of the
front's extent below its worst value in each objective.

Run: ``python -m benchmarks.tuner.fronts [--seeds N] [--scenario NAME] [--arm NAME]``
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.tuner.arms import Arm, make_search
from benchmarks.tuner.scenarios import PER_GPU, PER_USER, SCENARIOS
from benchmarks.tuner.surface import Surface
from tuner.search.objective import Objective
from tuner.search.pareto import front_places, hypervolume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from benchmarks.tuner.scenarios import Scenario
    from engines.knob import Value

    Array = NDArray[np.float64]

OBJECTIVES: Final = (Objective(PER_GPU, "avg", "maximize"), Objective(PER_USER, "p50", "maximize"))
STARTS: Final = 24
_MARGIN: Final = 0.1

ARMS: Final = (
    Arm("roofline"),
    Arm("roofline, scrambled prior", prior="scrambled"),
    Arm("roofline, no prior", prior="none"),
    Arm("TPE, same filter", sampler="tpe", prior="none"),
    Arm("NSGA-II, same filter", sampler="nsga2", prior="none"),
    Arm("random, same filter", sampler="random", prior="none"),
)


@dataclass(frozen=True, slots=True)
class Front:
    """The enumerated front of a scenario.

    Attributes:
        worst: Where the area begins, in each objective.
        area: The whole area.
    """

    worst: Array
    area: float

    @classmethod
    def of(cls, surface: Surface) -> Front:
        """The front of everything that starts and passes the quality gate."""
        points = np.unique(np.concatenate([surface.points(row) for row in surface.scenario.configurations()]), axis=0)
        front = points[front_places(points)]
        extent = front.max(axis=0) - front.min(axis=0)
        worst = front.min(axis=0) - _MARGIN * extent
        return cls(worst, hypervolume(front, worst))

    def share(self, points: Array) -> float:
        """Share of the area that some points cover."""
        return hypervolume(points, self.worst) / self.area if len(points) else 0.0


def run_once(arm: Arm, scenario: Scenario, front: Front, seed: int) -> list[float]:
    """Share of the front's area after each start."""
    surface = Surface(scenario, seed, quirks=False)
    search = make_search(arm, scenario, seed, objectives=OBJECTIVES)
    curve: list[float] = []
    while len(curve) < STARTS and (proposal := search.ask()) is not None:
        search.tell(proposal, surface.start_several(proposal.params, OBJECTIVES))
        found: list[Mapping[str, Value]] = []
        for point in search.front():
            if point.params not in found:
                found.append(point.params)
        curve.append(
            front.share(np.concatenate([surface.points(params) for params in found]) if found else np.empty((0, 2)))
        )
    return curve


def row(arm: Arm, curves: Sequence[Sequence[float]]) -> str:
    """The figures of one strategy."""
    cells = [f"{arm.name} ({len(curves)})"]
    for starts in (6, 12, STARTS):
        shares = sorted(curve[min(starts, len(curve)) - 1] for curve in curves)
        cells += [f"{statistics.median(shares):.1%}", f"{shares[len(shares) // 10]:.1%}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="runs of each scenario")
    parser.add_argument("--scenario", action="append", default=[])
    parser.add_argument("--arm", action="append", default=[])
    options = parser.parse_args()
    scenarios = [each for each in SCENARIOS if each.every_level and options.scenario in ([], [each.name])]
    fronts = [Front.of(Surface(scenario, 0, quirks=False)) for scenario in scenarios]
    print(f"{', '.join(each.name for each in scenarios)}; in brackets: runs; median and worst tenth\n")
    print("| strategy | after 6 | worst tenth | after 12 | worst tenth | after 24 | worst tenth |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for arm in ARMS:
        if not options.arm or arm.name in options.arm:
            pairs = zip(scenarios, fronts, strict=True)
            curves = [
                run_once(arm, scenario, front, seed) for scenario, front in pairs for seed in range(options.seeds)
            ]
            print(row(arm, curves), flush=True)


if __name__ == "__main__":
    main()
