"""Where PostgreSQL becomes the limit: clients ask and tell as fast as they can, and the server's own CPU time is counted.

Run: ``python -m benchmarks.cluster.clients [--clients 1,2,4,8] [--seconds 10]``

Clients use Optuna's random sampler, which costs nothing to speak of, so that what is seen is the storage. The clients and
the server share this machine: the rate is what both reach together, the CPU time of the server tells what it would bear alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
import warnings

import optuna

from benchmarks.cluster.postgres import Postgres, running

KNOBS = 8
STUDY = "clients"


def main() -> None:
    """Print a line for each number of clients."""
    parser = argparse.ArgumentParser(description="Where PostgreSQL becomes the limit.")
    parser.add_argument("--clients", default="1,2,4,8")
    parser.add_argument("--seconds", type=float, default=10.0)
    told = parser.parse_args()
    with running() as server:
        _study(_storage(server.url()), create=True)
        for clients in map(int, told.clients.split(",")):
            _measure(server, clients, told.seconds)


def _measure(server: Postgres, clients: int, seconds: float) -> None:
    before_s = server.cpu_s()
    context = multiprocessing.get_context("spawn")
    with context.Pool(clients) as pool:
        pool.map(_warm, range(clients))
        before_s = server.cpu_s()
        counts = pool.starmap(_ask_and_tell, [(server.url(), seconds)] * clients)
        spent_s = server.cpu_s() - before_s
    trials = sum(counts)
    each_ms = spent_s * 1e3 / max(trials, 1)
    print(
        f"{clients} clients: {trials / seconds:.0f} trials/s (ask and tell), server CPU {each_ms:.2f} ms a trial:"
        f" one core of the server bears {1e3 / each_ms:.0f} trials/s, or {300e3 / each_ms:.0f} workers with trials of 5 minutes",
        flush=True,
    )


def _warm(_: int) -> None:
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _ask_and_tell(url: str, seconds: float) -> int:
    study = _study(_storage(url), create=False)
    deadline, count = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        trial = study.ask()
        value = sum(trial.suggest_int(f"knob{place}", 1, 64) for place in range(KNOBS))
        trial.set_user_attr("trial", count)
        study.tell(trial, value)
        count += 1
    return count


def _storage(url: str) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(url.replace("postgresql:", "postgresql+psycopg:"))


def _study(storage: optuna.storages.RDBStorage, *, create: bool) -> optuna.Study:
    sampler = optuna.samplers.RandomSampler(seed=0)
    if create:
        return optuna.create_study(study_name=STUDY, storage=storage, sampler=sampler)
    return optuna.load_study(study_name=STUDY, storage=storage, sampler=sampler)


if __name__ == "__main__":
    main()
