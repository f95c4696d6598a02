"""From plan to launch: containers, placeholders, and what the session may keep of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from engines.errors import BadConfiguration
from engines.launch.docker import DockerLauncher
from engines.launch.process import ProcessLauncher
from engines.registry import get_engine
from tuner.plan import EnginePlan
from tuner.server import Places, launch_spec, launcher_for, shown_launch


def plan(**fields: Any) -> EnginePlan:
    return EnginePlan.model_validate({"model": "llama", **fields})


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path, 4711)


def test_placeholders_are_filled_when_it_starts_and_paths_are_left_out_of_the_session(places: Places) -> None:
    wish = plan(command=["{python}", "-m", "engines.simulated"], arguments=["--sim-dcgm-port", "{free_port}"])

    spec = launch_spec(wish, get_engine("trtllm"), {}, places, 0)
    shown = shown_launch(spec, places)

    assert spec.argv[0] == sys.executable
    assert spec.argv[-2:] == ("--sim-dcgm-port", "4711")
    assert str(places.work_dir) not in str(shown)
    assert sys.executable not in str(shown)


def test_a_container_is_started_as_the_plan_says(places: Places) -> None:
    container = {"image": "vllm/vllm-openai:v0.24.0", "mounts": ["/models:/models:ro"], "gpus": ["0"], "ipc": "host"}
    wish = plan(name="vllm", launch="docker", container=container)

    spec = launch_spec(wish, get_engine("vllm"), {"max-num-seqs": 64}, places, 0)

    assert isinstance(launcher_for(wish), DockerLauncher)
    assert spec.container is not None
    assert spec.container.mounts[0].read_only
    assert "--max-num-seqs" in spec.argv
    assert shown_launch(spec, places)["container"]


def test_an_engine_without_containers_says_so(places: Places) -> None:
    wish = plan(name="llamacpp", launch="docker", container={"image": "x"})

    with pytest.raises(BadConfiguration, match=r"does not start llama\.cpp in a container"):
        launch_spec(wish, get_engine("llamacpp"), {}, places, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"launch": "docker"},
        {"container": {"image": "x"}},
        {"launch": "docker", "container": {"image": "x", "mounts": ["y"]}},
    ],
)
def test_a_container_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"container|mounts"):
        plan(**fields)


def test_a_process_is_the_usual_way() -> None:
    assert isinstance(launcher_for(plan()), ProcessLauncher)


def test_values_that_look_like_secrets_are_hidden_in_the_session(places: Places) -> None:
    spec = launch_spec(plan(name="vllm"), get_engine("vllm"), {}, places, 0)
    hidden = shown_launch(type(spec)(spec.argv, spec.url, spec.ready_path, {"HF_TOKEN": "abc", "A": "b"}), places)

    assert hidden["environment"] == {"HF_TOKEN": "(hidden)", "A": "b"}
