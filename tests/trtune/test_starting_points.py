"""Published configurations as starting points of a search."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.trtllm import ENGINE
from trtune.errors import UsageError
from trtune.planfile import make_plan
from trtune.starting_points import with_starting_points
from tuner.errors import BadPlan
from tuner.plan import Plan
from tuner.search.space import build_space
from tuner.searching import space_of

RECIPE = "max_batch_size: 720\ncuda_graph_config:\n  max_batch_size: 720\nmoe_config:\n  backend: TRTLLM\nodd: 1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "openai/gpt-oss-120b/H200/1k1k_tp1_conc32.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(RECIPE)
    return tmp_path


def plan(**more: object) -> Plan:
    tables = {"engine": {"model": "openai/gpt-oss-120b"}, "gpu": {"local": False}, **more}
    return make_plan(tables, "test")


def test_the_search_begins_with_them_and_searches_what_they_set(folder: Path) -> None:
    told, words = with_starting_points(plan(), ENGINE, folder, "H200")

    space = space_of(told, ENGINE)
    (first,) = told.starting_points
    assert first["moe_config.backend"] == "TRTLLM"
    assert space.nearest(first)["max_batch_size"] == 720
    assert {"max_num_tokens", "moe_config.backend"} <= set(space.distributions)
    assert "left out, no settings of this version: odd" in words[0]


def test_knobs_that_the_plan_names_stay_as_they_are(folder: Path) -> None:
    told, _ = with_starting_points(plan(knobs={"max_batch_size": [8, 1024]}), ENGINE, folder, "H200")

    assert set(build_space(ENGINE.knobs(), told.knobs, {}).distributions) == {"max_batch_size"}


def test_the_plan_with_them_outlives_the_folder(folder: Path) -> None:
    told, _ = with_starting_points(plan(), ENGINE, folder, "H200")

    again = Plan.model_validate(told.model_dump(mode="json"))

    assert again == told


def test_nothing_that_fits_is_said_with_what_there_is(folder: Path) -> None:
    with pytest.raises(
        UsageError, match="nothing for openai/gpt-oss-120b on B200; there is something for: gpt-oss-120b"
    ):
        with_starting_points(plan(), ENGINE, folder, "B200")


def test_they_can_be_written_into_a_plan(folder: Path) -> None:
    told = plan(starting_points=[{"max_batch_size": 64, "kv_cache_config": {"dtype": "fp8"}}])

    assert told.starting_points == ({"max_batch_size": 64, "kv_cache_config.dtype": "fp8"},)


@pytest.mark.parametrize(
    ("point", "told"),
    [
        ({"max_batch_sise": 64}, r"starting_points\[2\].max_batch_sise: .*did you mean max_batch_size"),
        ({"max_batch_size": "many"}, r"starting_points\[2\].max_batch_size = 'many'"),
    ],
)
def test_a_mistake_in_one_is_named(point: dict[str, object], told: str) -> None:
    with pytest.raises(BadPlan, match=told):
        space_of(plan(starting_points=[{"max_batch_size": 64}, point]), ENGINE)
