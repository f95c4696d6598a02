"""A variant that answers otherwise cannot win, and the session says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sessions.reader import SessionReader
from tests.trtune.conftest import Program, objects

pytestmark = pytest.mark.xdist_group("tune-2")

VARIANTS = ("--set", "knobs.max_batch_size=8", "--set", 'knobs.kv_cache_config.dtype=["auto", "fp8"]')


@pytest.mark.parametrize(("share", "passes"), [("0.3", False), ("0.01", True)])
def test_an_altered_model_is_held_against_the_unaltered_one(
    program: Program, plan: Callable[..., Path], share: str, passes: bool
) -> None:
    path = plan(arguments=("--sim-answer-loss", f"fp8={share}"))

    done = program.run("tune", path, "--json", "--session", program.session, "--trials", "2", *VARIANTS)

    assert done.returncode == 0, done.stdout + done.stderr
    with SessionReader(program.session) as reader:
        meta, (baseline, variant) = reader.meta(), reader.trials()
        phases = {phase.name for phase in reader.phases(1)}
    assert variant.params["kv_cache_config.dtype"] == "fp8"
    assert "quality" in phases
    verdict = meta["quality"]["1"]
    assert verdict["passed"] is passes
    assert 1 - verdict["agreement"] == pytest.approx(float(share), abs=0.08)
    assert meta["quality_reference"]["own_agreement"] == 1.0
    if passes:
        assert variant.state == "complete"
    else:
        assert variant.state == "infeasible"
        assert variant.failure is not None
        assert variant.failure.kind == "quality"
        assert variant.failure.accuses == ("kv_cache_config.dtype",)
        assert objects(done.stdout)[-1]["best"]["number"] == baseline.number  # type: ignore[index]


def test_an_unaltered_model_that_cannot_be_served_is_tried_once_and_told_of(
    program: Program, plan: Callable[..., Path]
) -> None:
    tables = (
        '[baseline]\n"kv_cache_config.dtype" = "fp8"\n'
        '[quality.reference]\n"kv_cache_config.dtype" = "auto"\nmax_batch_size = -3\n'
    )

    done = program.run("tune", plan(tables=tables), "--json", "--session", program.session, "--trials", "2")

    assert done.returncode == 0, done.stdout + done.stderr
    with SessionReader(program.session) as reader:
        warnings = [event.text for event in reader.events() if event.kind == "warning" and "gate" in event.text]
        assert [trial.kind for trial in reader.trials()] == ["reference", "baseline", "search"]
    assert len(warnings) == 1
    assert warnings[0].startswith("no quality gate: the unaltered model cannot be served: ")
    assert "max_batch_size cannot be -3" in warnings[0]
