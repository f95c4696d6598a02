"""Which knob matters, and what moving it does, from a handful of trials."""

from __future__ import annotations

import random

import pytest

from engines.knob import Knob
from tuner.search.explanation import FEWEST_PED_ANOVA, explain_knobs, ped_anova
from tuner.search.history import Observation
from tuner.search.objective import Objective
from tuner.search.space import build_space

KNOBS = (
    Knob("parallel", "choice", 1, choices=(1, 2, 4), searched=True, coarse=True),
    Knob("batch", "float", 0.5, low=0, high=1, searched=True),
    Knob("idle", "int", 1, low=1, high=9, searched=True),
)
SPACE = build_space(KNOBS, {}, {})
OBJECTIVE = Objective("output_token_throughput", "avg", "maximize")


def trials(count: int, seed: int) -> list[Observation]:
    """Throughput that triples with the parallelism, grows a little with the batch, and does not care about the last knob."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        params = {"parallel": rng.choice((1, 2, 4)), "batch": rng.random(), "idle": rng.randint(1, 9)}
        value = 100 * params["parallel"] ** 0.8 * (1 + 0.2 * params["batch"]) * rng.gauss(1, 0.02)
        found.append(Observation(params, value))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_what_matters_most_is_seen_after_a_handful_of_trials(seed: int) -> None:
    told = explain_knobs(SPACE, OBJECTIVE, trials(8, seed))

    assert told is not None
    assert next(iter(told.importance)) == "parallel"
    assert told.importance["parallel"] > 0.7
    assert sum(told.importance.values()) == pytest.approx(1)


def test_an_effect_is_in_the_objectives_units_and_rises_where_the_server_gets_faster() -> None:
    told = explain_knobs(SPACE, OBJECTIVE, trials(20, 1))

    assert told is not None
    effect = told.effects["parallel"]
    assert effect.values == (1, 2, 4)
    assert effect.score[0] < effect.score[1] < effect.score[2]
    assert effect.score[2] == pytest.approx(100 * 4**0.8 * 1.1, rel=0.1)
    assert all(low <= score <= high for low, score, high in zip(effect.low, effect.score, effect.high, strict=True))
    assert sum(effect.trials) == 20


def test_nothing_is_said_while_too_little_is_known() -> None:
    assert explain_knobs(SPACE, OBJECTIVE, trials(4, 0)) is None
    assert explain_knobs(SPACE, OBJECTIVE, [Observation({"parallel": 1, "batch": 0.5, "idle": 1}, 100.0)] * 9) is None
    assert ped_anova(SPACE, OBJECTIVE, trials(FEWEST_PED_ANOVA - 1, 0)) is None


def test_ped_anova_joins_in_when_there_are_enough_trials_for_it() -> None:
    told = ped_anova(SPACE, OBJECTIVE, trials(80, 3))

    assert told is not None
    assert next(iter(told)) == "parallel"
