"""Random kill -9 in recording and in tuning: `python -m benchmarks.sessions.torture [--recording 160] [--tuning 60]`.

After every kill the session must open, pass its own `verify`, hold every trial that had been reported finished and every sample
and request but those of the last second, and be gone on with. Printed: what was lost at most, and what was ever wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from sessions.clock import NS_PER_S
from sessions.holding import is_written
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from sessions.verify import verify

MAX_LOSS_S = 1.0
ORPHAN_WAIT_S = 20.0
JUDGED = ("complete", "pruned", "infeasible")
PROGRESS_LIMIT_S = 60.0
PLAN = """
name = "torture"
[engine]
name = "trtllm"
model = "llama-3.1-8b"
command = ["{python}", "-m", "engines.simulated"]
arguments = ["--sim-gpu", "h100-sxm", "--sim-time-scale", "0.001", "--sim-dcgm-port", "{{free_port}}"]
start_timeout_s = 60
[gpu]
local = false
dcgm_url = "http://127.0.0.1:{{free_port}}/metrics"
[workload]
isl = 64
osl = 8
[load]
levels = [2]
[load.stop]
warmup_s = 0
min_s = 0.3
max_s = 0.5
min_requests = 2
[search]
trials = 500
proof_rounds = 0
[knobs]
max_batch_size = [1, 2, 4, 8, 16, 32, 64, 128]
max_num_tokens = [512, 1024, 2048, 4096, 8192]
enable_chunked_prefill = [true, false]
"""


@dataclass(slots=True)
class Told:
    """What a killed writer had reported as handed over or finished, and what was ever found wrong."""

    trials: dict[int, float] = field(default_factory=dict)
    requests: list[int] = field(default_factory=list)
    oldest_ns: int = 0
    newest_ns: int = 0
    worst_loss_s: float = 0.0
    worst_loss_requests: int = 0
    kills: int = 0
    wrong: list[str] = field(default_factory=list)

    def hear(self, line: str) -> None:
        kind, number, value = line.split()
        self.newest_ns = max(self.newest_ns, int(value)) if kind != "trial" else self.newest_ns
        if kind == "trial":
            self.trials[int(number)] = float(value)
        elif kind == "request":
            self.requests.append(int(value))


def torture_recording(kills: int, seed: int) -> Told:
    """Kill a process that does nothing but record."""
    chance = random.Random(seed)
    told = Told()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.trtune"
        Recorder.create(path, {}).close()
        for _ in range(kills):
            writer = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.sessions.torture_writer", path], stdout=subprocess.PIPE, text=True
            )
            assert writer.stdout is not None
            told.hear(writer.stdout.readline())
            told.oldest_ns = told.newest_ns
            time.sleep(chance.expovariate(1.5))
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout.read().splitlines(keepends=True):
                if line.endswith("\n"):
                    told.hear(line)
            writer.wait()
            told.kills += 1
            _check_recording(path, told)
    return told


def _check_recording(path: Path, told: Told) -> None:
    _check_file(path, told)
    with SessionReader(path) as reader:
        trials = {trial.number: trial.score for trial in reader.trials() if trial.state == "complete"}
        lost = [number for number, score in told.trials.items() if trials.get(number) != score]
        if lost:
            told.wrong.append(f"kill {told.kills}: finished trials {lost} are not there")
        newest_ns = max(
            (sample.t_ns for source in reader.sources() if (sample := reader.last_sample(source.id))), default=0
        )
        recorded = sum(len(reader.requests(level.id, arrivals=False)) for level in reader.levels())
    # A writer killed before its first transaction has lost what it handed over, not the time before it began.
    loss_s = (told.newest_ns - max(newest_ns, told.oldest_ns)) / NS_PER_S
    told.worst_loss_s = max(told.worst_loss_s, loss_s)
    if loss_s > MAX_LOSS_S:
        told.wrong.append(f"kill {told.kills}: the last {loss_s:.2f} s of samples are not there")
    old_enough = sum(t_ns < told.newest_ns - MAX_LOSS_S * NS_PER_S for t_ns in told.requests)
    if recorded < old_enough:
        told.wrong.append(f"kill {told.kills}: {old_enough - recorded} requests older than a second are not there")
    told.worst_loss_requests = max(told.worst_loss_requests, len(told.requests) - recorded)
    # What was lost at this kill is not expected after the next one.
    told.requests = told.requests[: max(recorded, 0)]


def _check_file(path: Path, told: Told) -> None:
    if is_written(path):
        told.wrong.append(f"kill {told.kills}: the killed writer still holds the session")
    found = verify(path)
    told.wrong += [f"kill {told.kills}: {problem}" for problem in found.problems]


def torture_tuning(kills: int, seed: int) -> Told:
    """Kill the worker of a search on the simulated server."""
    from trtune.planfile import make_plan, read_tables
    from trtune.start import begin_session, start_worker

    chance = random.Random(seed)
    told = Told()
    with TemporaryDirectory() as folder:
        os.environ["TRTUNE_SESSIONS"] = folder
        plan_path = Path(folder) / "plan.toml"
        plan_path.write_text(PLAN.format(python=sys.executable))
        path = Path(folder) / "run.trtune"
        begin_session(make_plan(read_tables(plan_path), "torture"), path)
        for _ in range(kills):
            worker = start_worker(path)
            _wait_to_kill(path, told, chance)
            family = psutil.Process(worker.pid).children(recursive=True)
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            told.kills += 1
            _gone, left = psutil.wait_procs(family, timeout=ORPHAN_WAIT_S)
            for process in left:
                told.wrong.append(f"kill {told.kills}: a process is left behind: {' '.join(process.cmdline())[:100]}")
                process.kill()
            _check_tuning(path, told)
    return told


def _wait_to_kill(path: Path, told: Told, chance: random.Random) -> None:
    """Every other time at any moment, else soon after a trial has finished: a killed start teaches little again and again."""
    before = len(told.trials)
    progress = chance.random() < 0.5
    end_s = time.monotonic() + (PROGRESS_LIMIT_S if progress else chance.uniform(0.0, 8.0))
    while time.monotonic() < end_s:
        _note_finished(path, told)
        if progress and len(told.trials) > before:
            progress, end_s = False, time.monotonic() + chance.uniform(0.0, 2.0)
        time.sleep(0.02)


def _note_finished(path: Path, told: Told) -> None:
    with SessionReader(path) as reader:
        told.trials |= {t.number: t.score or 0.0 for t in reader.trials() if t.end_ns and t.state != "interrupted"}


def _check_tuning(path: Path, told: Told) -> None:
    _check_file(path, told)
    with SessionReader(path) as reader:
        trials = {trial.number: trial for trial in reader.trials()}
    for number, score in told.trials.items():
        if number not in trials or (trials[number].score or 0.0) != score:
            told.wrong.append(f"kill {told.kills}: finished trial {number} is not there as it was")
    # A trial that failed without its configuration being to blame may be proposed again; one that gave a result may not.
    judged = [trials[number] for number in told.trials if number in trials and trials[number].state in JUDGED]
    configurations = Counter(str(sorted(trial.params.items())) for trial in judged)
    told.wrong += [f"kill {told.kills}: run again: {each}" for each, times in configurations.items() if times > 1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recording", type=int, default=160, help="kills while recording")
    parser.add_argument("--tuning", type=int, default=60, help="kills while tuning")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    wrong = 0
    for name, kills, torture in (
        ("recording", options.recording, torture_recording),
        ("tuning", options.tuning, torture_tuning),
    ):
        if not kills:
            continue
        began_s = time.monotonic()
        told = torture(kills, options.seed)
        print(
            f"{name}: {told.kills} kills in {time.monotonic() - began_s:.0f} s, {len(told.trials)} trials reported finished, "
            f"{len(told.wrong)} faults"
            + (
                f"; at most {told.worst_loss_s:.2f} s of samples and {told.worst_loss_requests} requests lost"
                if name == "recording"
                else ""
            ),
            flush=True,
        )
        for text in told.wrong[:20]:
            print(f"  {text}")
        wrong += len(told.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
