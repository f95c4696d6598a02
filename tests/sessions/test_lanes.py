"""Trials side by side: the samples of a trial are those of its own server and GPUs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessions.lanes import own_sources
from sessions.reader import SessionReader
from sessions.recorder import Recorder

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(gpus: tuple[str, ...], *placed: dict[str, Any]) -> Path:
        recorder = Recorder.create(tmp_path / "run.trtune", {})
        for name in ("engine", "lane1/engine"):
            recorder.add_source("engine", name, {})
        for number, name in enumerate(gpus):
            recorder.add_source("gpu", name, {"uuid": f"GPU-{number}"})
        for data in placed:
            trial = recorder.start_trial("search", {})
            recorder.event("placed", "", trial=trial, data=data)
        recorder.start_trial("search", {})
        recorder.close()
        return recorder.path

    return make


def names(path: Path, kind: str, trial: int) -> list[str]:
    with SessionReader(path) as reader:
        return [source.name for source in own_sources(reader, kind, trial)]


def test_lanes_of_one_host_share_its_gpus_by_what_each_was_given(write: Write) -> None:
    path = write(
        ("gpu0", "gpu1", "gpu2"),
        {"lane": "", "gpu_uuids": ["GPU-0"]},
        {"lane": "lane1", "gpu_uuids": ["GPU-1", "GPU-2"]},
    )

    assert [names(path, "engine", trial) for trial in (0, 1)] == [["engine"], ["lane1/engine"]]
    assert [names(path, "gpu", trial) for trial in (0, 1)] == [["gpu0"], ["gpu1", "gpu2"]]


def test_lanes_on_nodes_have_gpus_of_their_own(write: Write) -> None:
    path = write(("lane0/gpu0", "lane1/gpu0"), {"lane": "lane0"}, {"lane": "lane1"})

    assert names(path, "gpu", 1) == ["lane1/gpu0"]


def test_a_trial_that_ran_alone_has_the_sources_without_a_lane(write: Write) -> None:
    path = write(("gpu0", "gpu1"), {"lane": "lane1"})

    assert names(path, "engine", 1) == ["engine"]
    assert names(path, "gpu", 1) == ["gpu0", "gpu1"]


def test_a_session_that_does_not_tell_lanes_has_one_set_for_all(write: Write) -> None:
    assert names(write(("gpu0",)), "engine", 0) == ["engine", "lane1/engine"]


def test_what_a_strangers_file_says_of_places_does_no_harm(write: Write) -> None:
    path = write(("gpu0",), {"lane": 7, "gpu_uuids": "GPU-0"}, {"lane": "nowhere", "gpu_uuids": [None]})

    assert names(path, "gpu", 0) == ["gpu0"]
    assert names(path, "engine", 1) == []
