"""Tuning over a real local Ray cluster: several nodes with pretend GPUs, simulated servers, and a node that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

from benchmarks.cluster.postgres import Postgres
from engines.launch.ports import free_port
from sessions.reader import SessionReader
from sessions.records import Trial
from sessions.requests import RequestStatus
from tests.trtune.running import running_server

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore"),
]

NODES, GPUS_PER_NODE = 4, 2

PLAN = """
name = "over a cluster"
[engine]
name = "trtllm"
model = "llama-3.1-8b"
command = ["{python}", "-m", "engines.simulated"]
arguments = ["--sim-gpu", "h100-sxm", "--sim-gpus", "2", "--sim-time-scale", "0.001"]
start_timeout_s = 120
[gpu]
local = false
[workload]
isl = 64
osl = 8
[load]
levels = [4]
[load.stop]
min_s = 0.3
max_s = 0.6
min_requests = 8
[search]
trials = %(trials)d
proof_rounds = 0
sampler = "random"
[fleet]
check_neighbours = false
[baseline]
tensor_parallel_size = 1
[knobs]
tensor_parallel_size = [1, 2]
max_batch_size = [4, 8, 16, 32, 64]
max_num_tokens = [1024, 2048, 4096, 8192]
enable_chunked_prefill = [false, true]
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without GPUs, and nodes that a test may take away."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    port = free_port("127.0.0.1")
    head = {"num_cpus": 0, "include_dashboard": False, "ray_client_server_port": port}
    started: Any = Cluster(initialize_head=True, head_node_args=head)
    started.client_address = f"ray://127.0.0.1:{port}"
    started.workers = [started.add_node(num_cpus=GPUS_PER_NODE, num_gpus=GPUS_PER_NODE) for _ in range(NODES)]
    try:
        yield started
    finally:
        started.shutdown()


def tune(folder: Path, address: str, trials: int, *words: str, lanes: int = 8) -> subprocess.Popen[str]:
    plan = folder / "plan.toml"
    plan.write_text(PLAN % {"trials": trials})
    flags = ["--headless", "--json", "--session", str(folder / "run.trtune"), "--cluster", address]
    return subprocess.Popen(
        [sys.executable, "-m", "trtune", "tune", str(plan), *flags, "--side-by-side", str(lanes), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    )


def servers_left(trials: Iterable[Trial]) -> list[int]:
    """Pids of processes that still run with the command line of a trial's server."""
    started = [list(trial.launch["argv"])[1:] for trial in trials if trial.launch]
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(words and (process.info["cmdline"] or [])[-len(words) :] == words for words in started)
    ]


def test_sixty_four_trials_on_four_nodes_survive_the_loss_of_one(
    cluster: Any, postgres: Postgres, tmp_path: Path
) -> None:
    path = tmp_path / "run.trtune"
    tuning = tune(tmp_path, cluster.address, 64, "--storage", postgres.url(), "--set", "fleet.study=four-nodes")

    deadline = time.monotonic() + 700
    while (busy := node_at_work(path, cluster, finished=12)) is None:
        assert tuning.poll() is None, tuning.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    cluster.remove_node(busy, allow_graceful=False)
    cluster.workers.remove(busy)
    told, _ = tuning.communicate(timeout=1500)

    assert tuning.returncode == 0, told[-3000:]
    with SessionReader(path) as reader:
        trials, events = reader.trials(), reader.events()
    assert not servers_left(trials), "a server outlived its node"
    counted = [trial for trial in trials if trial.state in ("complete", "pruned", "infeasible", "failed")]
    lost = [trial for trial in trials if trial.state == "interrupted"]
    assert len(counted) == 64
    assert lost, "the node that died ran nothing"
    assert sum("is gone" in event.text for event in events) == len(lost)
    assert {trial.end_ns is not None for trial in trials} == {True}
    storage = postgres.storage()
    study = optuna.load_study(study_name="four-nodes", storage=storage)
    # What the search drew and rejected is in the study too; it was never run and has no number.
    told_of = [trial.user_attrs["trial"] for trial in study.trials if "trial" in trial.user_attrs]
    assert sorted(told_of) == sorted(trial.number for trial in counted)
    assert postgres.password.encode() not in path.read_bytes()
    storage.remove_session()
    storage.engine.dispose()


def test_a_driver_outside_the_cluster_tunes_through_rays_client_and_survives_the_loss_of_a_node(
    cluster: Any, tmp_path: Path
) -> None:
    path = tmp_path / "run.trtune"
    tuning = tune(tmp_path, cluster.client_address, 8, lanes=2)

    deadline = time.monotonic() + 400
    while (busy := node_at_work(path, cluster, finished=2)) is None:
        assert tuning.poll() is None, tuning.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    cluster.remove_node(busy, allow_graceful=False)
    cluster.workers.remove(busy)
    told, _ = tuning.communicate(timeout=600)
    cluster.workers.append(cluster.add_node(num_cpus=GPUS_PER_NODE, num_gpus=GPUS_PER_NODE))

    assert tuning.returncode == 0, told[-3000:]
    with SessionReader(path) as reader:
        trials, events = reader.trials(), reader.events()
        done = [trial for trial in trials if trial.state == "complete"]
        asked = [len(reader.requests(level.id).sent_ns) for trial in done for level in reader.levels(trial.number)]
    lost = sum("is gone" in event.text for event in events)
    assert lost
    assert [trial.state for trial in trials].count("interrupted") == lost
    assert len(done) == 8
    assert min(asked) >= 8
    assert not servers_left(trials)


def test_a_node_writes_at_the_right_times_and_as_a_trial_here_would(cluster: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.trtune"
    tuning = tune(tmp_path, cluster.address, 2, lanes=2)
    told, _ = tuning.communicate(timeout=600)

    assert tuning.returncode == 0, told[-3000:]
    with SessionReader(path) as reader:
        for trial in reader.trials():
            (level,) = reader.levels(trial.number)
            requests = reader.requests(level.id)
            phases = [phase.name for phase in reader.phases(trial.number)]
            assert phases[0] == "prepare"
            assert phases[-1] == "stop"
            assert trial.end_ns is not None
            assert level.end_ns is not None
            assert level.window_ns is not None
            assert trial.start_ns <= level.start_ns <= level.window_ns[0] < level.window_ns[1]
            assert trial.start_ns < requests.sent_ns.min() < requests.end_ns.max() <= trial.end_ns
            assert trial.launch["argv"]
        placed_events = [event for event in reader.events() if event.kind == "placed"]
    assert all(event.data["clock_error_ns"] < 50_000_000 for event in placed_events)


def test_an_altered_model_on_a_node_is_held_against_the_unaltered_one(cluster: Any, tmp_path: Path) -> None:
    lossy = '["--sim-gpu", "h100-sxm", "--sim-gpus", "2", "--sim-time-scale", "0.001", "--sim-answer-loss", "fp8=0.5"]'
    held = ("tensor_parallel_size=1", "max_batch_size=16", "max_num_tokens=2048", "enable_chunked_prefill=false")
    words = (
        f"engine.arguments={lossy}",
        *(f"knobs.{each}" for each in held),
        'knobs.kv_cache_config.dtype=["auto", "fp8"]',
    )
    tuning = tune(tmp_path, cluster.address, 2, *(word for each in words for word in ("--set", each)), lanes=1)
    told, _ = tuning.communicate(timeout=600)

    assert tuning.returncode == 0, told[-3000:]
    with SessionReader(tmp_path / "run.trtune") as reader:
        (altered,) = [trial for trial in reader.trials() if trial.params.get("kv_cache_config.dtype") == "fp8"]
        meta = reader.meta()
    assert altered.failure is not None
    assert altered.failure.kind == "quality"
    assert meta["quality_reference"]["own_agreement"] == 1.0
    assert meta["quality"][str(altered.number)]["passed"] is False


@pytest.mark.parametrize("way", ["address", "client_address"])
def test_nodes_of_the_cluster_send_load_to_one_server(cluster: Any, tmp_path: Path, way: str) -> None:
    path = tmp_path / "bench.trtune"
    with running_server(tmp_path) as url:
        bench = subprocess.run(
            [
                *(sys.executable, "-m", "trtune", "bench", url, "--headless", "--session", str(path)),
                *("--cluster", getattr(cluster, way), "--load-hosts", "2"),
                *("--concurrency", "12", "--requests", "60", "--isl", "8", "--osl", "5"),
            ],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    assert bench.returncode == 0, bench.stdout[-3000:] + bench.stderr
    with SessionReader(path) as reader:
        (level,) = reader.levels()
        table = reader.requests(level.id)
    assert level.state == "valid", level.notes
    assert sorted(table.index.tolist()) == list(range(60))
    assert (table.status == RequestStatus.OK).all()
    assert (table.sent_ns < table.first_ns).all()


def test_more_gpus_than_any_node_has_are_refused_in_one_line(cluster: Any, tmp_path: Path) -> None:
    held = [word for table in ("baseline", "knobs") for word in ("--set", f"{table}.tensor_parallel_size=8")]
    tuning = tune(tmp_path, cluster.address, 2, *held)
    told, _ = tuning.communicate(timeout=400)

    assert tuning.returncode != 0
    assert "Traceback" not in told
    assert "8 GPUs on one node are asked for and the largest node of the cluster has 2" in told


HOLD = """
import sys, ray
from ray.util.placement_group import placement_group
ray.init(address=sys.argv[1], log_to_driver=False)
ray.get(placement_group([{"GPU": int(sys.argv[3])}] * int(sys.argv[2]), strategy="STRICT_SPREAD").ready())
print("held", flush=True)
sys.stdin.read()
"""


def test_a_stop_while_every_gpu_is_taken_ends_in_good_order(cluster: Any, tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, cluster.address, str(len(cluster.workers)), str(GPUS_PER_NODE)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert "held\n" in iter(holder.stdout.readline, "")
        tuning = tune(tmp_path, cluster.address, 2, lanes=2)
        deadline = time.monotonic() + 120
        while not told_of_waiting(tmp_path / "run.trtune"):
            assert tuning.poll() is None, tuning.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        tuning.send_signal(signal.SIGINT)
        told, _ = tuning.communicate(timeout=120)
        holder.kill()

    assert tuning.returncode == 130, told
    with SessionReader(tmp_path / "run.trtune") as reader:
        status = reader.worker()
        assert status is not None
        assert (status.state, status.text) == ("done", "stopped by the operator")
        assert reader.trials() == ()


def test_a_cluster_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    tuning = tune(tmp_path, "127.0.0.1:1", 2)
    told, _ = tuning.communicate(timeout=400)

    assert tuning.returncode != 0
    assert "Traceback" not in told
    assert "no Ray cluster answers at 127.0.0.1:1" in told


def told_of_waiting(path: Path) -> bool:
    if not path.exists():
        return False
    with SessionReader(path) as reader:
        return any("no node has 1 free GPU now" in event.text for event in reader.events())


def node_at_work(path: Path, cluster: Any, finished: int) -> Any:
    """A node that has just begun a trial, once so many trials are finished; None before."""
    if not path.exists():
        return None
    with SessionReader(path) as reader:
        trials = reader.trials()
        where = {event.trial: event.data["node"] for event in reader.events() if event.kind == "placed"}
    running = [trial.number for trial in trials if trial.end_ns is None and trial.number in where]
    if not running or sum(trial.end_ns is not None for trial in trials) < finished:
        return None
    return next((node for node in cluster.workers if node.node_id == where[running[-1]]), None)
