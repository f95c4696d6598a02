"""How right the feasibility check is: of what it lets through, how much fits; of the optimum's neighbours, how many it rejects.

Its sizes of activations and reserves are the usual ones, as the simulated engine's are; on a real server both are off, and what
still runs out of memory is learnt from the failure.

Run: ``python -m benchmarks.tuner.filter``
"""

from __future__ import annotations

import numpy as np

from benchmarks.tuner.arms import ARMS, make_search
from benchmarks.tuner.enumeration import OUT_OF_MEMORY, STARTED
from benchmarks.tuner.scenarios import SCENARIOS
from benchmarks.tuner.surface import Surface


def main() -> None:
    """Print one row per scenario."""
    print(
        "| scenario | configurations | let through | of these out of memory | start | of these rejected | neighbours rejected |"
    )
    print("|---|---|---|---|---|---|---|")
    for scenario in SCENARIOS:
        surface = Surface(scenario, 0, quirks=False)
        search = make_search(ARMS[0], scenario, 0)
        rows = list(scenario.configurations())
        through = np.array([search.rejection(row) is None for row in rows])
        status = surface.statuses()
        works = status == STARTED
        neighbours = surface.neighbours_of_optimum()
        rejected = sum(search.rejection(row) is not None for row in neighbours)
        print(
            f"| {scenario.name} | {len(rows)} | {through.sum()} | {np.mean(status[through] == OUT_OF_MEMORY):.2%} | {works.sum()} |"
            f" {np.mean(~through[works]):.2%} | {rejected} of {len(neighbours)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
