"""`trtune tune` with servers in containers, in a cluster, and in a Triton that is given new settings while it runs.

The Docker daemon and the cluster are fakes of ours; what runs in them is the simulated engine, with the command and the
variables that trtune sent.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from engines.launch.ports import free_port
from sessions.reader import SessionReader
from tests.engines.fake_docker_api import FakeDocker
from tests.engines.fake_kubernetes_api import FakeCluster
from tests.engines.test_kubernetes_launcher import write_kubeconfig
from tests.trtune.conftest import Program

pytestmark = pytest.mark.xdist_group("tune-2")

KEY = "nvapi-never-to-be-written-down"
TRITON_DATA = Path(__file__).parents[1] / "data" / "triton"
LOAD = """
[gpu]
local = false
[workload]
isl = 64
osl = 8
[load]
levels = [2]
[load.stop]
warmup_s = 0
min_s = 0.4
max_s = 0.8
min_requests = 2
[search]
trials = 3
proof_rounds = 0
"""


@pytest.fixture
async def docker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeDocker]:
    """A fake daemon that runs the simulated NIM."""
    pytest.importorskip("docker")
    fake = FakeDocker()
    fake.images, fake.dialect = {"registry/nim/llama:2.0.5"}, "nim"
    runner = web.AppRunner(fake.app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{runner.addresses[0][1]}")
    monkeypatch.setenv("NGC_API_KEY", KEY)
    yield fake
    await runner.cleanup()


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCluster]:
    """A fake cluster that runs the simulated NIM."""
    pytest.importorskip("kubernetes")
    fake = FakeCluster()
    fake.dialect, fake.states = "nim", {"NIMCache": "Ready"}
    runner = web.AppRunner(fake.app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = tmp_path / "kubeconfig"
    write_kubeconfig(config, f"http://127.0.0.1:{runner.addresses[0][1]}")
    monkeypatch.setenv("KUBECONFIG", str(config))
    monkeypatch.setenv("NGC_API_KEY", KEY)
    yield fake
    await runner.cleanup()


async def tune(program: Program, path: Path, plan: str, *words: str) -> Any:
    """Run the plan to its end, beside the fake's own work."""
    path.write_text(plan + LOAD)
    return await asyncio.to_thread(program.run, "tune", path, "--headless", "--session", program.session, *words)


NIM = """
name = "nim"
[engine]
name = "nim"
launch = "docker"
model = "llama-3.1-8b"
start_timeout_s = 60
[engine.container]
image = "registry/nim/llama:2.0.5"
gpus = ["0"]
"""


async def test_a_nims_profiles_are_listed_checked_started_and_its_key_is_nowhere(
    docker: FakeDocker, program: Program, tmp_path: Path
) -> None:
    knobs = '[knobs]\nNIM_MODEL_PROFILE = "runnable"\nmax-num-seqs = [64, 128]\n'

    done = await tune(program, tmp_path / "plan.toml", NIM + knobs, "--trials", "1")

    assert done.returncode == 0, done.stdout + done.stderr
    commands = [body["Cmd"] for body in docker.created]
    assert commands[0] == ["list-model-profiles"]
    assert "--dry-run" in commands[1]
    assert commands[2] == [word for word in commands[1] if word != "--dry-run"]
    with SessionReader(program.session) as reader:
        trials, profiles = reader.trials(), reader.meta()["profiles"]
    assert [profile["name"] for profile in profiles] == ["vllm-bf16-tp1-pp1"]
    assert trials[0].state == "complete"
    assert list(trials[0].launch["startup_s"])[:2] == ["container", "prepare"]
    assert all(f"NGC_API_KEY={KEY}" in body["Env"] for body in docker.created)
    assert not [path for path in program.session.parent.glob("run.trtune*") if KEY.encode() in path.read_bytes()]
    assert KEY not in done.stdout + done.stderr
    assert docker.containers == {}


async def test_what_a_dry_run_refuses_is_never_started(docker: FakeDocker, program: Program, tmp_path: Path) -> None:
    knobs = "[knobs]\nmax-model-len = [2048, 9000000]\nmax-num-seqs = 64\n[baseline]\nmax-model-len = 2048\n"

    done = await tune(program, tmp_path / "plan.toml", NIM + knobs)

    assert done.returncode == 0, done.stdout + done.stderr
    with SessionReader(program.session) as reader:
        (refused,) = (trial for trial in reader.trials() if trial.params.get("max-model-len") == 9_000_000)
        assert refused.state == "infeasible"
        assert refused.failure is not None
        assert refused.failure.accuses[0] == "max-model-len"
        assert {phase.name for phase in reader.phases(refused.number)} == {"prepare"}


async def test_an_image_that_is_not_there_ends_the_run_with_one_line(
    docker: FakeDocker, program: Program, tmp_path: Path
) -> None:
    docker.images = set()

    done = await tune(program, tmp_path / "plan.toml", NIM + "[knobs]\nmax-num-seqs = [64, 128]\n")

    assert done.returncode not in (0, 130)
    assert "docker pull registry/nim/llama:2.0.5" in done.stdout + done.stderr
    with SessionReader(program.session) as reader:
        assert [trial.state for trial in reader.trials()] == ["failed"]
    assert docker.containers == {}


async def test_a_daemon_that_does_not_answer_is_told_apart_by_the_exit_status(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")

    done = await tune(program, tmp_path / "plan.toml", NIM + "[knobs]\nmax-num-seqs = [64, 128]\n")

    assert done.returncode == 4
    assert "no Docker daemon answers" in done.stdout + done.stderr


CLUSTER = """
name = "cluster"
[engine]
name = "nim"
launch = "kubernetes"
model = "llama-3.1-8b"
start_timeout_s = 60
[engine.container]
image = "registry/nim/llama:2.0.5"
gpus = 1
port = {port}
[engine.cluster]
namespace = "lab"
"""


async def test_a_nim_is_tuned_through_its_operator(cluster: FakeCluster, program: Program, tmp_path: Path) -> None:
    place = 'nim_operator = true\nnim_cache = "weights"\nauth_secret = "ngc"\n'
    plan = CLUSTER.format(port=free_port()) + place + "[knobs]\nmax-num-seqs = [64, 128]\n"

    done = await tune(program, tmp_path / "plan.toml", plan, "--trials", "2")

    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.kinds == ["Pod", "NIMCache", "NIMService", "Pod", "NIMService"]
    with SessionReader(program.session) as reader:
        assert [trial.state for trial in reader.trials()] == ["complete"] * 2
    assert list(cluster.resources) == [("NIMCache", "weights")]


async def test_a_deployment_gets_the_key_through_a_secret_that_goes_with_it(
    cluster: FakeCluster, program: Program, tmp_path: Path
) -> None:
    plan = CLUSTER.format(port=free_port()) + "[knobs]\nmax-num-seqs = [64, 128]\n"

    done = await tune(program, tmp_path / "plan.toml", plan, "--trials", "1", "--set", "engine.pre_check=false")

    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.kinds == ["Secret", "Deployment", "Service"]
    assert cluster.only("Secret")["stringData"]["NGC_API_KEY"] == KEY
    assert cluster.resources == {}
    assert KEY.encode() not in program.session.read_bytes()


async def test_credentials_that_expired_end_the_run_with_one_line(
    cluster: FakeCluster, program: Program, tmp_path: Path
) -> None:
    cluster.unauthorised = True

    done = await tune(
        program, tmp_path / "plan.toml", CLUSTER.format(port=8000) + "[knobs]\nmax-num-seqs = [64, 128]\n"
    )

    assert done.returncode == 4
    assert "they are wrong or have expired; log in again" in done.stdout + done.stderr


TRITON = """
name = "triton"
[engine]
name = "triton_vllm"
model = "{models}"
command = ["{{python}}", "-m", "engines.simulated", "serve", "--sim-dialect", "triton", "--sim-gpu", "h200"]
arguments = ["--sim-time-scale", "0.002"]
start_timeout_s = 60
[knobs]
max_num_seqs = [16, 64]
gpu_memory_utilization = [0.5, 0.8]
"""


async def test_a_triton_takes_new_settings_without_a_new_process(program: Program, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(TRITON_DATA / "vllm", models)

    done = await tune(program, tmp_path / "plan.toml", TRITON.format(models=models), "--trials", "4")

    assert done.returncode == 0, done.stdout + done.stderr
    with SessionReader(program.session) as reader:
        trials = reader.trials()
        assert [trial.state for trial in trials] == ["complete"] * 4
        phases = [[phase.name for phase in reader.phases(trial.number)] for trial in trials]
        starts = [line for line in reader.logs() if "every figure of this server is simulated" in line.text]
    assert len(starts) == 1
    assert "start" in phases[0]
    assert all("reload" in names and "start" not in names for names in phases[1:])
    assert all(trial.launch["changed_by"] == "reload" for trial in trials[1:])
    for trial in trials:
        assert {**trial.effective, **trial.params} == trial.effective


async def test_an_altered_model_in_a_triton_is_held_against_the_unaltered_one(program: Program, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(TRITON_DATA / "vllm", models)
    text = TRITON.format(models=models).replace('"0.002"]', '"0.002", "--sim-answer-loss", "fp8=0.3"]')

    done = await tune(
        program,
        tmp_path / "plan.toml",
        text,
        *("--trials", "2", "--set", "knobs.max_num_seqs=16", "--set", "knobs.gpu_memory_utilization=0.8"),
        *("--set", 'knobs.kv_cache_dtype=["auto", "fp8"]'),
    )

    assert done.returncode == 0, done.stdout + done.stderr
    with SessionReader(program.session) as reader:
        meta, (_, variant) = reader.meta(), reader.trials()
    assert variant.params["kv_cache_dtype"] == "fp8"
    assert variant.failure is not None
    assert variant.failure.kind == "quality"
    assert meta["quality_reference"]["own_agreement"] == 1.0
    assert 1 - meta["quality"]["1"]["agreement"] == pytest.approx(0.3, abs=0.1)


def test_a_model_folder_without_its_configuration_is_refused_before_anything_starts(
    program: Program, tmp_path: Path
) -> None:
    (tmp_path / "weights").mkdir()
    plan = tmp_path / "plan.toml"
    plan.write_text(f'[engine]\nname = "vllm"\nmodel = "{tmp_path}/weights"\n')

    done = program.run("tune", plan, "--headless", "--session", program.session)

    assert done.returncode == 2
    assert "engine.model: the folder" in done.stderr
    assert "has no config.json" in done.stderr
    assert not program.session.exists()


def test_a_server_that_somebody_else_runs_is_not_tuned(program: Program, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('[engine]\nname = "vllm"\nlaunch = "attach"\nurl = "http://127.0.0.1:9"\n')

    done = program.run("tune", plan, "--headless", "--session", program.session)

    assert done.returncode == 2
    assert "does not change the settings of a server that it did not start" in done.stderr
