"""Plan files: what is wrong, where, and what is allowed, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtune.errors import UsageError
from trtune.planfile import make_plan, put, read_tables, set_fields
from trtune.plans import demo_tables

WHOLE = """
name = "mine"
[engine]
name = "trtllm"
model = "llama"
[workload]
isl = 1000
osl = 100
[load]
levels = [32, 8, 8]
[slo]
ttft_p99_ms = 500
error_ratio = 0.01
[search]
trials = 5
[knobs]
max_batch_size = { low = 8, high = 256, log = true }
enable_chunked_prefill = [false, true]
max_num_tokens = 4096
kv_cache_config.free_gpu_memory_fraction = [0.8, 0.9]
[baseline]
tensor_parallel_size = 2
"""


def read(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    return path


def complaint(tmp_path: Path, text: str) -> str:
    path = read(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        make_plan(read_tables(path), "plan.toml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_plan_is_understood(tmp_path: Path) -> None:
    plan = make_plan(read_tables(read(tmp_path, WHOLE)), "plan.toml")

    assert list(plan.load.levels) == [32, 8, 8]
    assert [str(slo) for slo in plan.objective.parsed_slos()] == ["ttft p99 <= 500 ms", "error_ratio <= 0.01 ratio"]
    assert plan.knobs["kv_cache_config.free_gpu_memory_fraction"] == (0.8, 0.9)
    assert plan.knobs["max_num_tokens"] == 4096
    assert plan.baseline == {"tensor_parallel_size": 2}


def test_the_demos_plan_is_understood() -> None:
    assert make_plan(demo_tables(), "demo").engine.name == "trtllm"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[search]\ntrails = 5", "plan.toml: search.trails is unknown; did you mean trials?"),
        ("[sarch]\ntrials = 5", "plan.toml: sarch is unknown; did you mean search?"),
        ("[search]\ntrials = 0", "plan.toml: search.trials = 0 must be at least 1"),
        ("[search]\ntrials = 'many'", "plan.toml: search.trials = 'many' must be an integer"),
        ("[search]\nsampler = 'best'", "plan.toml: search.sampler = 'best' must be 'roofline'"),
        ("[knobs]\nx = { low = 9, high = 2 }", "plan.toml: knobs.x: low (9) must be below high (2)"),
        ("[knobs]\nx = { low = 0, high = 2, log = true }", "a logarithmic range needs low above 0, not 0"),
        ("[load]\nlevels = []", "plan.toml: load.levels = [] must hold at least 1"),
        ("[load]\nlevels = [1.5]", "plan.toml: load: levels: 1.5 is no number of concurrent requests"),
        ("[workload]\nisl = true", "plan.toml: workload.isl = true must be a whole number, a list of them or a table"),
        (
            "[workload]\nisl = 2020-01-01",
            "plan.toml: workload.isl = 2020-01-01 must be a whole number, a list of them or a table",
        ),
        ("[workload]\nisl = -5", "plan.toml: workload.isl.tokens = -5 must be at least 1"),
        ("[workload.isl]\ndistribution = 'zipf'", "must have one of 'fixed', 'uniform', 'normal', "),
        ("[search]\nmoney = 5", "plan.toml: search.money needs price.gpu_hour"),
        ("[search]\ntrials = 100000000000000000000", "plan.toml: search.trials = 1e+20 must be an integer of 64 bits"),
        ("slo = 3", "plan.toml: slo = 3 must be a table"),
        ("objective = 3\n[slo]\nttft_p99_ms = 5", "plan.toml: objective = 3 must be a table"),
        ("[objective]\nslos = 'ttft'\n[slo]\nttft_p99_ms = 5", "plan.toml: objective.slos = 'ttft' must be a list"),
        ("[load]\nlevels = [-1]", "load.levels.0 = -1 must be above 0"),
        ("[slo]\nttft_p99_hours = 3", "ttft_p99_hours"),
        ("[objective]\nmetric = 'speed'", "metric 'speed' is unknown"),
        ("[objective]\nslos = ['ttft:p42:<=:1']", "p42"),
        ("[engine]\nlaunch = 'attach'", "launch = 'attach' needs url"),
        ("[engine\n", "not valid TOML"),
        ("[engine.environment]\nNGC_API_KEY = 'x'", "environment.NGC_API_KEY looks like a secret"),
        ("[engine.environment]\n'X;reboot' = 'y'", "environment: 'X;reboot' is no name of a variable"),
        ("[engine]\narguments = ['--api-key', 'x']", "--api-key carries a secret"),
        ("[engine]\nlaunch = 'attach'\nurl = 'http://me:x@host'", "engine.url: it carries a password"),
        ("[gpu]\ndcgm_url = 'http://me:x@host/metrics'", "gpu.dcgm_url: it carries a password"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_is_allowed(tmp_path: Path, text: str, told: str) -> None:
    assert told in complaint(tmp_path, text)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UsageError, match=r"nowhere\.toml: No such file"):
        read_tables(Path("nowhere.toml"))


def test_flags_set_any_field() -> None:
    tables = demo_tables()

    set_fields(tables, ["search.trials=3", "engine.model=my/model", "knobs.kv_cache_config.dtype=['auto','fp8']"])

    plan = make_plan(tables, "flags")
    assert (plan.search.trials, plan.engine.model) == (3, "my/model")
    assert plan.knobs["kv_cache_config.dtype"] == ("auto", "fp8")


@pytest.mark.parametrize("flag", ["search.trials", "=3", "name.deeper=1"])
def test_a_flag_that_cannot_be_understood_is_refused(flag: str) -> None:
    tables = {"name": "x"}

    with pytest.raises(UsageError):
        set_fields(tables, [flag])


def test_knob_names_keep_their_dots() -> None:
    tables: dict[str, object] = {}

    put(tables, "knobs.a.b", 1)

    assert tables == {"knobs": {"a.b": 1}}


def test_default_stands_for_what_the_server_does_by_itself() -> None:
    plan = make_plan(
        {"knobs": {"quantization": ["default", "fp8"], "a.b": "default"}, "baseline": {"x": 1}}, "plan.toml"
    )

    assert plan.knobs == {"quantization": (None, "fp8"), "a.b": None}
