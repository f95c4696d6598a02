"""TensorRT-LLM's engine backend: what is built with which words, once for all trials that share it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from engines.errors import BadConfiguration, CannotStart, MissingProgram, StartFailed
from engines.knob import Value
from engines.launch.build import missing_builds, run_builds
from engines.launch.spec import LaunchRequest, LaunchSpec
from engines.trtllm_engines import ENGINE
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from tuner.control import Control
from tuner.plan import EnginePlan, GpuPlan, Plan
from tuner.server import Places
from tuner.upkeep import Upkeep

PROGRAM = """\
#!/bin/sh
echo "$(basename "$0") $*" >> {calls}
{more}
while [ $# -gt 0 ]; do
  if [ "$1" = --output_dir ]; then mkdir -p "$2"; touch "$2/rank0.engine"; fi
  shift
done
"""
"""Stands in for trtllm-build and for Python with quantize.py: only that they are called, and fill their folder."""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of calls of the stand-ins, which are first on the PATH."""
    calls = tmp_path / "calls"
    for name in ("trtllm-build", "python3"):
        write_program(tmp_path, name)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return calls


def write_program(folder: Path, name: str, more: str = "") -> None:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(PROGRAM.format(calls=folder / "calls", more=more))
    path.chmod(0o755)


def launch(folder: Path, params: Mapping[str, Value], **more: Any) -> LaunchSpec:
    told = {"model": "org/model", "version": "1.2.1", **more}
    return ENGINE.launch(
        LaunchRequest(params=params, host="127.0.0.1", port=1, work_dir=folder, build_dir=folder / "builds", **told)
    )


def test_the_engine_is_built_from_a_quantised_checkpoint_and_served_with_the_models_tokenizer(tmp_path: Path) -> None:
    params: dict[str, Value] = {
        "quantize.qformat": "fp8",
        "tensor_parallel_size": 2,
        "build.max_batch_size": 64,
        "build.multiple_profiles": True,
        "kv_cache_config.free_gpu_memory_fraction": 0.95,
        "extended_runtime_perf_knob_config.cuda_graph_mode": True,
    }

    spec = launch(tmp_path, params)

    quantize, build = spec.builds
    assert quantize.argv[:2] == ("python3", "/app/tensorrt_llm/examples/quantization/quantize.py")
    assert quantize.argv[2:] == (
        *("--model_dir", "org/model", "--output_dir", "{output}", "--dtype", "auto", "--qformat", "fp8"),
        *("--tp_size", "2", "--pp_size", "1"),
    )
    assert build.argv == (
        *("trtllm-build", "--checkpoint_dir", str(quantize.output), "--output_dir", "{output}"),
        *("--max_batch_size", "64", "--multiple_profiles", "enable"),
    )
    assert spec.argv[:3] == ("trtllm-serve", "serve", str(build.output))
    assert spec.argv[spec.argv.index("--tokenizer") + 1] == "org/model"
    assert spec.argv[spec.argv.index("--backend") + 1] == "tensorrt"
    # The server's own default of 2048 is refused by an engine with a smaller limit.
    assert [spec.argv[spec.argv.index(f"--max_{name}") + 1] for name in ("batch_size", "num_tokens", "beam_width")] == [
        "64", "8192", "1",
    ]  # fmt: skip
    (text,) = spec.files.values()
    assert yaml.safe_load(text) == {
        "kv_cache_config": {"free_gpu_memory_fraction": 0.95},
        "extended_runtime_perf_knob_config": {"cuda_graph_mode": True},
    }


@pytest.mark.parametrize(
    ("params", "tuned"),
    [
        ({"scheduler_config.capacity_scheduler_policy": "MAX_UTILIZATION"}, (True, False)),
        ({"scheduler_config.dynamic_batch_config.enable_batch_size_tuning": False}, (False, False)),
        ({"scheduler_config.dynamic_batch_config.enable_max_num_tokens_tuning": True}, (True, True)),
    ],
)
def test_a_scheduler_setting_keeps_the_tuning_that_trtllm_serve_switches_on(
    params: dict[str, Value], tuned: tuple[bool, bool], tmp_path: Path
) -> None:
    (text,) = launch(tmp_path, params).files.values()

    dynamic = yaml.safe_load(text)["scheduler_config"]["dynamic_batch_config"]
    assert dynamic == {
        "enable_batch_size_tuning": tuned[0],
        "enable_max_num_tokens_tuning": tuned[1],
        "dynamic_batch_moving_average_window": 128,
    }


def test_without_settings_the_file_is_an_empty_mapping_since_this_backend_refuses_the_keys_of_the_other(
    tmp_path: Path,
) -> None:
    (text,) = launch(tmp_path, {}).files.values()

    assert yaml.safe_load(text) == {}


def test_only_settings_of_the_build_make_another_engine(tmp_path: Path) -> None:
    base = launch(tmp_path, {})

    at_start = launch(tmp_path, {"kv_cache_config.free_gpu_memory_fraction": 0.8})
    default = launch(tmp_path, {"build.max_batch_size": 2048})
    flag = launch(tmp_path, {"build.max_batch_size": 64})
    precision = launch(tmp_path, {"quantize.qformat": "fp8"})

    assert base.builds == at_start.builds
    assert [step.output for step in default.builds] == [step.output for step in base.builds]
    assert flag.builds[0].output == base.builds[0].output
    assert flag.builds[1].output != base.builds[1].output
    assert {step.output for step in precision.builds}.isdisjoint({step.output for step in base.builds})
    assert (
        ENGINE.build_key({})
        == ENGINE.build_key({"num_postprocess_workers": 4})
        != ENGINE.build_key({"build.max_batch_size": 8})
    )


async def test_what_is_built_is_kept_for_the_next(tmp_path: Path, programs: Path) -> None:
    lines: list[str] = []
    spec = launch(tmp_path, {"build.max_batch_size": 64})

    first = await run_builds(spec, lines.append)
    again = await run_builds(launch(tmp_path, {"build.max_batch_size": 64}), lines.append)
    other = await run_builds(launch(tmp_path, {"build.max_batch_size": 128}), lines.append)

    assert (first, again, other) == (("quantize", "build"), (), ("build",))
    assert missing_builds(spec) == ()
    assert [call.split()[0] for call in programs.read_text().splitlines()] == [
        "python3",
        "trtllm-build",
        "trtllm-build",
    ]
    assert not list((tmp_path / "builds").glob("*.part"))


async def test_a_build_that_fails_says_why_and_leaves_nothing(tmp_path: Path, programs: Path) -> None:
    write_program(tmp_path, "trtllm-build", "echo 'CUDA error: out of memory'; mkdir -p half; exit 1")
    spec = launch(tmp_path, {})

    with pytest.raises(StartFailed) as raised:
        await run_builds(spec, lambda _: None)

    assert programs.exists()
    assert raised.value.failure.kind == "out_of_memory"
    assert spec.builds[0].output.is_dir()
    assert not spec.builds[1].output.exists()
    assert not list((tmp_path / "builds").glob("*.part"))


async def test_what_a_killed_worker_left_of_a_build_is_removed(tmp_path: Path, programs: Path) -> None:
    spec = launch(tmp_path, {})
    leftover = spec.builds[1].output.with_name(f"{spec.builds[1].output.name}.part")
    leftover.mkdir(parents=True)
    (leftover / "rank7.engine").write_bytes(b"half")

    await run_builds(spec, lambda _: None)

    assert programs.exists()
    assert sorted(path.name for path in spec.builds[1].output.iterdir()) == ["rank0.engine"]
    assert not list((tmp_path / "builds").glob("*.part"))


async def test_a_folder_that_cannot_be_written_is_named_with_what_to_set(tmp_path: Path, programs: Path) -> None:
    (tmp_path / "builds").write_text("a file, where the folder of engines should be")

    with pytest.raises(CannotStart, match="File exists; name another folder as build_cache"):
        await run_builds(launch(tmp_path, {}), lambda _: None)

    assert not programs.exists()


async def test_a_build_that_makes_nothing_is_a_failure(tmp_path: Path, programs: Path) -> None:
    write_program(tmp_path, "python3", "exit 0")

    with pytest.raises(StartFailed, match="quantize failed with exit code 0"):
        await run_builds(launch(tmp_path, {}), lambda _: None)

    assert programs.exists()


def test_a_built_engine_is_served_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine/rank0.engine").touch()
    model = str(tmp_path / "engine")

    spec = launch(tmp_path, {"enable_chunked_prefill": True}, model=model)

    assert spec.builds == ()
    assert spec.argv[2] == model
    assert "--max_batch_size" not in spec.argv
    assert ENGINE.check_model(model) is None
    told = {"build_config": {"max_batch_size": 64, "max_num_tokens": 4096, "max_seq_len": 2048}}
    (tmp_path / "engine/config.json").write_text(json.dumps(told), encoding="utf-8")
    served = launch(tmp_path, {}, model=model).argv
    assert served[served.index("--max_batch_size") + 1] == "64"
    assert served[served.index("--max_num_tokens") + 1] == "4096"
    with pytest.raises(BadConfiguration, match=r"is a built engine: build\.max_batch_size is frozen in it"):
        launch(tmp_path, {"build.max_batch_size": 8}, model=model)


@pytest.mark.parametrize("version", ["1.3.0rc21", "1.3.0rc28", "1.4.0"])
def test_versions_without_that_backend_are_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(BadConfiguration, match="has no engine backend any more: use the engine trtllm"):
        launch(tmp_path, {}, version=version)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"build.max_batch_size": 2048, "build.max_num_tokens": 1024}, "is more than"),
        ({"enable_chunked_prefill": True, "build.use_paged_context_fmha": False}, "needs build.use_paged_context_fmha"),
        ({"build.use_fp8_context_fmha": True}, "needs quantize.qformat fp8"),
        ({"build.reduce_fusion": True}, "no effect on one GPU"),
    ],
)
def test_settings_that_cannot_be_built_are_named(params: dict[str, Value], reason: str) -> None:
    assert reason in (ENGINE.conflicts(params) or "")


async def test_a_trial_shows_that_it_builds_and_the_next_one_does_not(tmp_path: Path, programs: Path) -> None:
    recorder = Recorder.create(tmp_path / "run.trtune", {})
    engine_plan = EnginePlan(
        name="trtllm_engines", model="org/model", version="1.2.1", build_cache=str(tmp_path / "builds")
    )
    async with aiohttp.ClientSession() as http:
        upkeep = Upkeep(
            plan=Plan(engine=engine_plan, gpu=GpuPlan(local=False)),
            engine=ENGINE,
            recorder=recorder,
            control=Control(),
            http=http,
            places=Places(tmp_path / "work", 1),
            on_ready=nothing,
        )
        for workers in (1, 4):
            params: dict[str, Value] = {"build.max_batch_size": 64, "num_postprocess_workers": workers}
            number = recorder.start_trial("search", params)
            with pytest.raises(MissingProgram, match="trtllm-serve"):
                await upkeep.bring(number, params)
    recorder.close()

    with SessionReader(recorder.path) as reader:
        phases = [[phase.name for phase in reader.phases(number)] for number in (0, 1)]
        launched = reader.trials()[0].launch
    assert programs.exists()
    assert phases == [["build", "start"], ["start"]]
    assert [step["name"] for step in launched["builds"]] == ["quantize", "build"]


async def nothing() -> None:
    """The GPUs of a test need no opening."""
