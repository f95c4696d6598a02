"""TensorRT-LLM over several hosts: the scripts are run by bash, where srun and mpirun only say how they were called."""

from __future__ import annotations

import os
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from sessions.reader import SessionReader
from trtune.errors import UsageError
from trtune.exports.formats import FORMS
from trtune.exports.winner import Wishes

from .test_exports import session

PARAMS = {"tensor_parallel_size": 8, "pipeline_parallel_size": 2, "max_batch_size": 64}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    engine: dict[str, Any] = {
        "name": "trtllm",
        "model": "/models/big",
        "environment": {"UCX_TLS": "rc", "TRTLLM_ENABLE_PDL": "1"},
    }
    return session(tmp_path / "run.trtune", engine, dict(PARAMS))


def export(path: Path, form: str, **wishes: Any) -> str:
    with SessionReader(path) as reader:
        return FORMS[form].make(reader, None, Wishes(**wishes))


def run(text: str, program: str, folder: Path, **environment: str) -> list[str]:
    """The words with which the script calls the program; bash itself has read the script first."""
    spy = folder / "bin" / program
    spy.parent.mkdir()
    spy.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\0" "$word"; done\n')
    spy.chmod(0o755)
    subprocess.run(["bash", "-n", "-c", text], check=True)
    env = {"PATH": f"{spy.parent}{os.pathsep}{os.environ['PATH']}", **environment}
    done = subprocess.run(["bash", "-c", text], cwd=folder, env=env, capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def test_slurm_runs_a_task_for_each_gpu_and_the_server_in_one_of_them(path: Path, tmp_path: Path) -> None:
    text = export(path, "slurm", port=9000)

    words = run(text, "srun", tmp_path)

    assert words[:7] == ["--mpi=pmix", "--nodes", "2", "--ntasks", "16", "--ntasks-per-node", "8"]
    launched = words[words.index("trtllm-llmapi-launch") :]
    assert launched[:4] == ["trtllm-llmapi-launch", "trtllm-serve", "serve", "/models/big"]
    config = yaml.safe_load((tmp_path / launched[launched.index("--config") + 1]).read_text())
    assert (config["tensor_parallel_size"], config["pipeline_parallel_size"]) == (8, 2)
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks=16\n#SBATCH --ntasks-per-node=8\n" in text


def test_slurm_in_a_container_mounts_model_and_folder(path: Path, tmp_path: Path) -> None:
    words = run(export(path, "slurm", image="x:1"), "srun", tmp_path)

    assert "--container-image=x:1" in words
    assert f"--container-mounts={tmp_path}:{tmp_path},/models/big:/models/big:ro" in words


def test_the_checkpoint_that_won_is_mounted_and_loaded(tmp_path: Path) -> None:
    engine = {"name": "trtllm", "model": "/models/big", "variants": ["/models/small"]}
    path = session(tmp_path / "run.trtune", engine, {**PARAMS, "checkpoint": "/models/small"})

    assert "/models/small:/models/small:ro" in export(path, "slurm", image="x:1")
    assert "--model /models/small" in export(path, "aiperf")


def test_a_strangers_model_is_a_word_and_no_command(tmp_path: Path) -> None:
    path = session(tmp_path / "run.trtune", {"name": "trtllm", "model": '/m$(touch run)"`touch run`'}, dict(PARAMS))

    words = run(export(path, "slurm", image="x:1"), "srun", tmp_path)

    assert not (tmp_path / "run").exists()
    assert any('/m$(touch run)"`touch run`:ro' in word for word in words)


@pytest.mark.parametrize(("form", "program"), [("slurm", "srun"), ("mpirun", "mpirun")])
def test_a_name_with_blanks_survives_the_launcher(tmp_path: Path, form: str, program: str) -> None:
    """It splits its command at blanks once more, as `$command` without quotes does."""
    path = session(tmp_path / "run.trtune", {"name": "trtllm", "model": "/models/big * $(id) model"}, dict(PARAMS))
    (tmp_path / "trtllm-serve").write_text('#!/bin/sh\nprintf %s "$2"\n')
    (tmp_path / "trtllm-serve").chmod(0o755)

    words = run(export(path, form), program, tmp_path)

    launched = words[words.index("trtllm-llmapi-launch") + 1 :]
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "task": " ".join(launched)}
    done = subprocess.run(["bash", "-c", "$task"], cwd=tmp_path, env=env, capture_output=True, check=True, text=True)
    assert done.stdout == "/models/big * $(id) model"


def test_mpirun_in_a_slurm_job_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as raised:
        run(export(path, "mpirun"), "mpirun", tmp_path, SLURM_JOB_ID="7")

    assert b"use --format slurm" in raised.value.stderr


def test_mpirun_hands_on_the_plans_variables_and_those_that_are_set(path: Path, tmp_path: Path) -> None:
    words = run(export(path, "mpirun"), "mpirun", tmp_path, NCCL_SOCKET_IFNAME="ib0")

    assert words[:4] == ["-n", "16", "--oversubscribe", "--allow-run-as-root"]
    assert words[words.index("--map-by") + 1] == "ppr:8:node"
    handed_on = [after for word, after in pairwise(words) if word == "-x"]
    assert handed_on == ["UCX_TLS", "TRTLLM_ENABLE_PDL", "NCCL_SOCKET_IFNAME"]


def test_on_one_host_there_is_no_host_file(path: Path, tmp_path: Path) -> None:
    words = run(export(path, "mpirun", gpus_per_node=16), "mpirun", tmp_path)

    assert "--hostfile" not in words


@pytest.mark.parametrize("form", ["slurm", "mpirun"])
def test_variables_that_do_not_reach_the_server_are_named(path: Path, form: str) -> None:
    assert "# Of this configuration that concerns: UCX_TLS." in export(path, form)


def test_gpus_that_do_not_divide_over_the_hosts_are_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="16 GPUs do not divide evenly"):
        export(path, "slurm", gpus_per_node=6)


def test_other_servers_are_refused(tmp_path: Path) -> None:
    other = session(tmp_path / "v.trtune", {"name": "vllm", "model": "m"}, {})

    with pytest.raises(UsageError, match="vLLM is not started over several hosts"):
        export(other, "slurm")
