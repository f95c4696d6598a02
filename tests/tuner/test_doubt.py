"""A prior that misleads is left aside: after some results in vain it is not asked any more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.knob import Knob
from tuner.search.doubt import STARTS_IN_VAIN, is_left_aside
from tuner.search.objective import Objective
from tuner.search.problem import Meaning
from tuner.search.search import Result, Search
from tuner.search.settings import Settings

OBJECTIVE = Objective("output_token_throughput", "avg", "maximize")
MEANINGS = {
    "wide": Meaning.TENSOR_PARALLEL,
    "lanes": Meaning.BATCH,
    "gulp": Meaning.TOKEN_BUDGET,
    "split": Meaning.CHUNKED,
}
KNOBS = (
    Knob("wide", "int", default=1, choices=(1, 2, 4), coarse=True),
    Knob("lanes", "int", default=8, choices=(8, 16, 32, 64)),
    Knob("gulp", "int", default=1024, choices=(1024, 2048, 4096, 8192)),
    Knob("split", "bool", default=False),
    Knob("pad", "bool", default=False),
)


def column(*reach: float) -> NDArray[np.float64]:
    return np.array(reach)[:, None]


class Misleading:
    """A prior that swears that wide servers are slow, which they are not, and cares for knobs that do nothing."""

    def covers(self, objective: Objective) -> bool:
        return True

    def utility(self, settings: Settings, objective: Objective) -> NDArray[np.float64]:
        wide, lanes = settings.get(Meaning.TENSOR_PARALLEL, 1), settings.get(Meaning.BATCH, 8)
        return np.asarray(np.log(100 / wide**2) + 0.02 * np.log2(lanes))

    def best_level(self, settings: Settings, objective: Objective) -> NDArray[np.float64]:
        return np.ones(settings.rows)


def test_a_prior_is_kept_while_it_brings_gains() -> None:
    assert not is_left_aside(np.empty((0, 1)))
    assert not is_left_aside(column(*np.arange(20) * 0.1))


def test_a_prior_is_left_after_results_in_vain_and_not_asked_again() -> None:
    in_vain = [0.0] * (STARTS_IN_VAIN + 1)

    assert not is_left_aside(column(*in_vain[:-1]))
    assert is_left_aside(column(*in_vain))
    assert is_left_aside(column(*in_vain, 5.0, 6.0)), "what was found without it does not speak for it"


@given(st.lists(st.floats(-0.01, 0.01), min_size=STARTS_IN_VAIN + 1, max_size=30))
def test_noise_is_no_gain(noise: list[float]) -> None:
    assert is_left_aside(column(*noise))


def test_a_gain_in_one_of_several_directions_is_a_gain() -> None:
    places = np.arange(20)
    reach = np.stack([np.zeros(20), 0.1 * places], axis=1)

    assert not is_left_aside(reach)


@pytest.mark.parametrize("seed", range(4))
def test_what_a_misleading_prior_forbids_is_found(seed: int) -> None:
    search = Search(KNOBS, OBJECTIVE, prior=Misleading(), meanings=MEANINGS, seed=seed)
    noise = np.random.default_rng(seed)
    best = 0.0
    for _ in range(10):
        proposal = search.ask()
        assert proposal is not None
        value = {1: 100.0, 2: 140.0, 4: 200.0}[int(str(proposal.params.get("wide", 1)))]
        best = max(best, value)
        search.tell(proposal, Result(value * float(np.exp(noise.normal(0, 0.02)))))

    assert best == 200


class Flattering(Misleading):
    """A prior that swears that wide servers are fast, which they are not."""

    def utility(self, settings: Settings, objective: Objective) -> NDArray[np.float64]:
        wide, lanes = settings.get(Meaning.TENSOR_PARALLEL, 1), settings.get(Meaning.BATCH, 8)
        return np.asarray(np.log(100 * wide**2) + 0.2 * np.log2(lanes))


def test_a_second_choice_of_a_prior_is_not_tried_once_its_first_was_wrong() -> None:
    search = Search(KNOBS, OBJECTIVE, prior=Flattering(), meanings=MEANINGS)
    tried = []
    for _ in range(4):
        proposal = search.ask()
        assert proposal is not None
        wide = int(str(proposal.params.get("wide", 1)))
        tried.append(wide)
        search.tell(proposal, Result(100.0 / wide**2))

    assert tried[:2] == [1, 4], "the baseline, and what the prior holds for the best"
    assert tried[2:] == [1, 1]
