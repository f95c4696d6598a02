"""A thousand workers in virtual time: one driver asks and tells a study in a real PostgreSQL, trials take no real time.

Run: ``python -m benchmarks.cluster.workers [--workers 1000] [--trials 3000]``

Each worker runs a trial of the benchmark's scenario for as long as the simulated engine says, in virtual time; when it ends,
it is told and the worker asks again. In the end the study must hold every trial once, told, and none must be open.
"""

from __future__ import annotations

import argparse
import heapq
import statistics
import time
import warnings

import optuna

from benchmarks.cluster.postgres import Postgres
from benchmarks.tuner.arms import ARMS, make_search
from benchmarks.tuner.scenarios import SCENARIOS
from benchmarks.tuner.surface import Surface
from tuner.fleet.storage import SharedStorage


def main() -> None:
    """Print the cost of ask and tell, and whether the study is whole."""
    parser = argparse.ArgumentParser(description="A thousand workers in virtual time.")
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=3000)
    told = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    server = Postgres()
    try:
        server.start()
        server.create()
        storage = SharedStorage.open(server.url(), "thousand")
        run(storage, told.workers, told.trials)
        storage.close()
    finally:
        server.close()


def run(storage: SharedStorage, workers: int, trials: int) -> None:
    """Drive the study until all trials are told."""
    scenario = SCENARIOS[0]
    surface = Surface(scenario, 0, quirks=True)
    search = make_search(ARMS[0], scenario, 0, storage=storage.optuna)
    now_s, asked, expected = 0.0, 0, {}
    under_way: list[tuple[float, int]] = []
    proposals, cpu_ms, wall_ms = {}, [], []
    while asked < trials or under_way:
        while asked < trials and len(under_way) < workers:
            begun, begun_cpu = time.perf_counter(), time.process_time()
            proposal = search.ask()
            if proposal is None:
                asked = trials
                break
            cpu_ms.append((time.process_time() - begun_cpu) * 1e3)
            wall_ms.append((time.perf_counter() - begun) * 1e3)
            start = surface.start(proposal.params)
            heapq.heappush(under_way, (now_s + start.seconds, proposal.id))
            proposals[proposal.id] = (proposal, start.result)
            asked += 1
            if asked % 100 == 0:
                recent = statistics.median(cpu_ms[-100:])
                print(f"{asked} asked for, {len(under_way)} under way: ask {recent:.0f} ms CPU", flush=True)
        now_s, identity = heapq.heappop(under_way)
        proposal, result = proposals.pop(identity)
        begun, begun_cpu = time.perf_counter(), time.process_time()
        search.tell(proposal, result)
        cpu_ms[-1] += (time.process_time() - begun_cpu) * 1e3
        wall_ms[-1] += (time.perf_counter() - begun) * 1e3
        expected[identity] = result.value
    for name, values in (("CPU", cpu_ms), ("wall", wall_ms)):
        ordered = sorted(values)
        print(
            f"ask + tell, {name}: median {statistics.median(ordered):.0f} ms,"
            f" p99 {ordered[int(0.99 * len(ordered))]:.0f} ms over {len(ordered)} trials, {workers} under way"
        )
    print(f"virtual time {now_s / 3600:.1f} h")
    _check(storage, expected)


def _check(storage: SharedStorage, expected: dict[int, float | None]) -> None:
    (study,) = [each for each in optuna.get_all_study_summaries(storage=storage.optuna) if each.n_trials]
    trials = optuna.load_study(study_name=study.study_name, storage=storage.optuna).get_trials(deepcopy=False)
    finished = {trial.number for trial in trials if trial.state.is_finished() and trial.number in expected}
    left = [trial.number for trial in trials if not trial.state.is_finished()]
    whole = finished == expected.keys() and not left
    print(
        f"the study holds {len(finished)} of {len(expected)} trials told, {len(left)} open: {'whole' if whole else 'NOT WHOLE'}"
    )


if __name__ == "__main__":
    main()
