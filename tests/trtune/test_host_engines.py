"""What `trtune doctor` says of each engine on this host and on hosts made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtune.host_engines import EngineState, Runtime, docker_runtime, engine_states, kubernetes_runtime

NO_DOCKER = Runtime("docker", False, "the package docker is not installed", "pip install 'trtune[docker]'")
NO_CLUSTER = Runtime("kubernetes", False, "the package kubernetes is not installed", "pip install 'trtune[kubernetes]'")
DOCKER = Runtime("docker", True, "daemon 25.0")
CLUSTER = Runtime("kubernetes", True, "the current context is at https://c")


def states(*runtimes: Runtime, gpu: bool, **environment: str) -> dict[str, EngineState]:
    return {state.name: state for state in engine_states(runtimes, gpu=gpu, environment=environment)}


def test_a_bare_host_is_told_what_each_engine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = states(NO_DOCKER, NO_CLUSTER, gpu=False)

    for name in ("vllm", "nim", "sglang", "lmdeploy", "tgi", "triton", "trtllm"):
        assert not found[name].startable, name
        assert found[name].todo, name
        assert any("no GPU here" in todo for todo in found[name].todo), name
    assert any("pip install vllm" in todo for todo in found["vllm"].todo)
    assert any("vllm/vllm-openai" in todo for todo in found["vllm"].todo)
    assert any("NGC_API_KEY is not set" in todo for todo in found["nim"].todo)
    assert found["openai"].startable


def test_docker_and_a_gpu_and_a_key_are_enough_for_nim() -> None:
    nim = states(DOCKER, NO_CLUSTER, gpu=True, NGC_API_KEY="k")["nim"]

    assert nim.startable
    assert nim.todo == ()
    assert "can be started in Docker" in nim.text


def test_a_cluster_has_its_own_gpus() -> None:
    vllm = states(NO_DOCKER, CLUSTER, gpu=False)["vllm"]

    assert vllm.startable
    assert "in a cluster" in vllm.text


def test_a_daemon_that_is_not_there_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")

    runtime = docker_runtime()

    assert not runtime.usable
    assert "no Docker daemon answers" in runtime.text
    assert "start it, or set DOCKER_HOST" in runtime.todo


def test_a_missing_kubeconfig_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kubernetes")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))

    runtime = kubernetes_runtime()

    assert not runtime.usable
    assert "set KUBECONFIG or log in" in runtime.todo
