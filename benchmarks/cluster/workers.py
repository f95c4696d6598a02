"""A thousand workers in virtual time: one driver asks and tells a study in a real PostgreSQL, trials take no real time.

Run: ``python -m benchmarks.cluster.workers [--workers 50,100,200,500,1000] [--trials 200]``

Each worker runs a trial of the benchmark's scenario for as long as the simulated engine says, in virtual time; when it ends,
it is told and the worker asks again. All workers are asked for first, then ``--trials`` more. In the end the study in the
database must hold every trial once, told, and none must be open. The CPU time of the driver and of the server tell how many
trials a second each bears with one core.
"""

from __future__ import annotations

import argparse
import heapq
import statistics
import time
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import optuna

from benchmarks.cluster.postgres import running
from benchmarks.tuner.arms import ARMS, make_search
from benchmarks.tuner.scenarios import SCENARIOS
from benchmarks.tuner.surface import Surface
from tuner.fleet.storage import HEARTBEAT_S, SharedStorage

if TYPE_CHECKING:
    from benchmarks.cluster.postgres import Postgres
    from tuner.search.exchange import Proposal, Result
    from tuner.search.search import Search

_SHOW_EVERY = 100
_BEATS = 20
"""Rounds of signs of life that are measured."""

_TRIAL_S = 300.0
"""Length of a trial, for the number of workers that a rate of trials is enough for."""


@dataclass(slots=True)
class Costs:
    """What was spent.

    Attributes:
        ask_ms: The driver's CPU time of each ask, by how it went.
        tell_ms: The same of each tell.
        server_s: CPU time of the server for asking and telling in all.
        beat_ms: The driver's CPU time of a round of signs of life for all workers.
        beat_server_ms: The server's CPU time of one.
    """

    ask_ms: list[float] = field(default_factory=list)
    tell_ms: list[float] = field(default_factory=list)
    server_s: float = 0.0
    beat_ms: float = 0.0
    beat_server_ms: float = 0.0


def main() -> None:
    """Print the cost of ask and tell for each number of workers, and whether the study is whole."""
    parser = argparse.ArgumentParser(description="A thousand workers in virtual time.")
    parser.add_argument("--workers", default="50,100,200,500,1000")
    parser.add_argument("--trials", type=int, default=200, help="trials beyond one for each worker")
    told = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with running() as server:
        for workers in map(int, told.workers.split(",")):
            storage = SharedStorage.open(server.url(), f"workers-{workers}")
            run(server, storage, workers, workers + told.trials)
            storage.close()


def run(server: Postgres, storage: SharedStorage, workers: int, trials: int) -> None:
    """Drive a study until all trials are told, and print what it cost."""
    scenario = SCENARIOS[0]
    surface = Surface(scenario, 0, quirks=True)
    search = make_search(ARMS[0], scenario, 0, storage=storage.optuna, study_name=storage.study)
    costs, before_s = Costs(), server.cpu_s()
    now_s, expected = 0.0, {}
    under_way: list[tuple[float, int, Proposal, Result]] = []
    while len(costs.ask_ms) < trials or under_way:
        while len(costs.ask_ms) < trials and len(under_way) < workers:
            begun_s = time.process_time()
            proposal = search.ask()
            costs.ask_ms.append((time.process_time() - begun_s) * 1e3)
            assert proposal is not None, "the space is too small for so many trials"
            start = surface.start(proposal.params)
            heapq.heappush(under_way, (now_s + start.seconds, proposal.id, proposal, start.result))
            if len(costs.ask_ms) % _SHOW_EVERY == 0:
                recent = statistics.median(costs.ask_ms[-_SHOW_EVERY:])
                print(f"  {len(costs.ask_ms)} asked, {len(under_way)} under way: ask {recent:.0f} ms CPU", flush=True)
        if len(costs.ask_ms) == workers and not costs.beat_ms:
            before_s += _beat(server, storage, search, [proposal for *_, proposal, _ in under_way], costs)
        now_s, identity, proposal, result = heapq.heappop(under_way)
        begun_s = time.process_time()
        search.tell(proposal, result)
        costs.tell_ms.append((time.process_time() - begun_s) * 1e3)
        expected[identity] = result.value
    costs.server_s = server.cpu_s() - before_s
    _print(costs, workers)
    print(f"  virtual time {now_s / 3600:.1f} h; {_verdict(server, storage.study, expected)}", flush=True)


def _beat(server: Postgres, storage: SharedStorage, search: Search, under_way: list[Proposal], costs: Costs) -> float:
    """Give signs of life for all that is under way, and note what one round costs; returns the server's CPU time for all."""
    trials = search.study.get_trials(deepcopy=False)
    rows = tuple(trials[proposal.id]._trial_id for proposal in under_way)
    server_s, driver_s = server.cpu_s(), time.process_time()
    for _ in range(_BEATS):
        storage.beat(rows)
    costs.beat_ms = (time.process_time() - driver_s) * 1e3 / _BEATS
    spent_s = server.cpu_s() - server_s
    costs.beat_server_ms = spent_s * 1e3 / _BEATS
    return spent_s


def _print(costs: Costs, workers: int) -> None:
    full = sorted(ask + tell for ask, tell in zip(costs.ask_ms[workers:], costs.tell_ms[workers:], strict=True))
    count = len(costs.ask_ms)
    driver_ms = (sum(costs.ask_ms) + sum(costs.tell_ms)) / count
    server_ms = costs.server_s * 1e3 / count
    print(
        f"{workers} workers: ask + tell with all of them under way, driver's CPU:"
        f" median {statistics.median(full):.0f} ms, p99 {full[int(0.99 * len(full))]:.0f} ms over {len(full)} trials"
    )
    beats_ms = {"driver": costs.beat_ms, "PostgreSQL": costs.beat_server_ms}
    for name, each_ms in (("driver", driver_ms), ("PostgreSQL", server_ms)):
        # A worker costs its trials, and its part of the signs of life.
        share = each_ms / 1e3 / _TRIAL_S + beats_ms[name] / 1e3 / workers / (HEARTBEAT_S / 2)
        print(
            f"  {name}: {each_ms:.1f} ms CPU a trial, {beats_ms[name]:.1f} ms for signs of life of all;"
            f" one core bears {1 / share:.0f} workers with trials of {_TRIAL_S / 60:.0f} minutes"
        )


def _verdict(server: Postgres, name: str, expected: dict[int, float | None]) -> str:
    """Whether the database holds what was told, as somebody sees it who only knows the database."""
    trials = optuna.load_study(study_name=name, storage=server.storage()).get_trials(deepcopy=False)
    values = {trial.number: trial.value for trial in trials if trial.state.is_finished() and trial.number in expected}
    right = [number for number, value in values.items() if expected[number] in (None, value)]
    left = [trial.number for trial in trials if not trial.state.is_finished()]
    whole = len(right) == len(expected) and not left
    return f"the study holds {len(right)} of {len(expected)} trials as told, {len(left)} open: {'whole' if whole else 'NOT WHOLE'}"


if __name__ == "__main__":
    main()
