"""What one ask and tell cost the worker with 200 trials in the study, in CPU time.

Run: ``python -m benchmarks.tuner.cost [trials]``
"""

from __future__ import annotations

import statistics
import sys
import time

from benchmarks.tuner.arms import ARMS, make_search
from benchmarks.tuner.scenarios import SCENARIOS
from benchmarks.tuner.surface import Surface


def main() -> None:
    """Print the cost of the last twenty."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    scenario = SCENARIOS[0]
    surface = Surface(scenario, 0, quirks=True)
    begun_s = time.process_time()
    search = make_search(ARMS[0], scenario, 0)
    print(f"to begin: {(time.process_time() - begun_s) * 1e3:.0f} ms")
    spent_ms: list[float] = []
    for _ in range(trials + 20):
        begun_s = time.process_time()
        proposal = search.ask()
        if proposal is None:
            break
        asked_s = time.process_time() - begun_s
        result = surface.start(proposal.params).result
        begun_s = time.process_time()
        search.tell(proposal, result)
        spent_ms.append((asked_s + time.process_time() - begun_s) * 1e3)
    last = spent_ms[-20:]
    print(
        f"ask + tell after {len(spent_ms) - len(last)} trials: "
        f"median {statistics.median(last):.0f} ms, worst {max(last):.0f} ms CPU"
    )


if __name__ == "__main__":
    main()
