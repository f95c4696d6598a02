"""The plans in examples/: every one is understood, and the real CPU engine is tuned by its own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from engines.llamacpp_server.tiny_model import write_tiny_model
from engines.registry import get_engine
from sessions.reader import SessionReader
from tests.trtune.conftest import Program, objects
from trtune.planfile import make_plan, read_tables
from tuner.searching import space_of

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_fits_its_engine(path: Path) -> None:
    plan = make_plan(read_tables(path), path.name)

    assert space_of(plan, get_engine(plan.engine.name)).distributions


def test_the_plan_in_the_readme_is_understood(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    block = readme.partition("```toml\n")[2].partition("```")[0]

    plan = make_plan(tomllib.loads(block), "README.md")

    assert space_of(plan, get_engine(plan.engine.name)).distributions


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(660)
def test_the_real_cpu_engine_is_tuned_by_restarting_it(program: Program, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="the extra llamacpp is not installed")
    model = tmp_path / "tiny.gguf"
    write_tiny_model(model)

    done = program.run(
        "tune", EXAMPLES[0].with_name("llamacpp.toml"), "--headless", "--json", "--session", program.session,
        "--model", str(model), "--trials", "4",
        "--set", "search.proof_rounds=0", "--set", "load.stop.min_s=1", "--set", "load.stop.max_s=60",
        "--set", "load.stop.max_requests=40", "--set", "search.time_s=600",
        timeout_s=600,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    result = objects(done.stdout)[-1]
    best, baseline = result["best"], result["baseline"]
    assert isinstance(best, dict)
    assert isinstance(baseline, dict)
    assert best["score"] >= baseline["score"] > 0
    assert result["simulated"] is False
    with SessionReader(program.session) as reader:
        trials = [trial for trial in reader.trials() if trial.state in ("complete", "pruned")]
        assert len(trials) == 4, [trial.state for trial in reader.trials()]
        parallel = [trial.params["parallel"] for trial in trials[1:]]
        assert [trial.effective["parallel"] for trial in trials[1:]] == parallel, "what was measured is what was asked"
        assert all(reader.last_sample(source.id) is not None for source in reader.sources("engine"))
