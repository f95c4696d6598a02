"""Several objectives: fronts, the volume they cover, and the search for them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.gpu.hardware import GPUS
from engines.knob import Knob
from engines.models import find_shape
from sessions.records import Metrics
from tuner.search.objective import Objective, score_several
from tuner.search.pareto import Directions, front_places, hypervolume, knee, utilities_of
from tuner.search.problem import Hardware, WorkloadShape
from tuner.search.search import Result, Search

PER_GPU = Objective("output_token_throughput_per_gpu", "avg", "maximize")
PER_USER = Objective("output_token_throughput_per_user", "avg", "maximize")
KNOBS = (
    Knob("width", "int", default=1, low=1, high=64, choices=(1, 2, 4, 8, 16, 32, 64)),
    Knob("depth", "int", default=1, low=1, high=64, choices=(1, 2, 4, 8, 16, 32, 64)),
    Knob("good", "bool", default=False),
)

table: st.SearchStrategy[np.ndarray] = st.lists(st.tuples(*[st.floats(0.1, 9)] * 2), min_size=1, max_size=12).map(
    np.array
)


def measured(params: dict[str, object]) -> tuple[float, float]:
    """Wide ones serve many, narrow ones fast; the depth has one right value."""
    width, depth = float(str(params.get("width", 1))), float(str(params.get("depth", 1)))
    loss = 1 + 0.3 * abs(np.log2(depth) - 3)
    gain = 1.3 if params.get("good") else 1.0
    return gain * width**0.8 / loss, gain * 100 / width**0.5 / loss


def reached(search: Search) -> float:
    return hypervolume(np.log([point.values for point in search.front()]), np.log([1.0, 10.0]))


@given(table)
def test_nothing_beats_the_front_and_the_front_beats_all_else(points: np.ndarray) -> None:
    front = points[front_places(points)]

    for point in points:
        assert any((best >= point).all() for best in front)
    for one, other in itertools.permutations(front, 2):
        assert not (one >= other).all()


@given(table, st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)))
def test_the_volume_grows_exactly_by_what_a_point_adds(points: np.ndarray, new: tuple[float, float]) -> None:
    corner = np.zeros(2)
    before, after = hypervolume(points, corner), hypervolume(np.vstack([points, new]), corner)

    inside = (points >= np.array(new)).all(axis=1).any()
    assert after == pytest.approx(before) if inside else after > before
    assert after <= before + new[0] * new[1] + 1e-9


def test_the_volume_in_three_dimensions() -> None:
    points = np.array([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 3.0]])

    assert hypervolume(points, np.zeros(3)) == pytest.approx(5.0)


def test_the_directions_reach_both_ends_of_the_front() -> None:
    points = np.array([[0.0, 1.0], [0.6, 0.6], [1.0, 0.0]])
    leading = {
        int(place) for turn in range(3) for place in Directions.towards(points, turn).reach(points).argmax(axis=0)
    }

    assert leading == {0, 1, 2}
    assert knee(points) == 1


def test_levels_within_the_slos_that_no_other_beats_are_kept() -> None:
    levels: list[Metrics | None] = [
        {"output_token_throughput_per_gpu": {"avg": one}, "output_token_throughput_per_user": {"avg": other}}
        for one, other in ((10.0, 50.0), (30.0, 30.0), (25.0, 20.0))
    ]

    scores = score_several((PER_GPU, PER_USER), levels)

    assert scores.points == ((30.0, 30.0), (10.0, 50.0))
    assert scores.levels == (1, 0)


def test_a_latency_counts_the_other_way_round() -> None:
    assert utilities_of([(10.0, 5.0)], [True, False])[0] == pytest.approx([np.log(10), -np.log(5)])


@pytest.mark.parametrize("sampler", ["roofline", "tpe", "nsga2"])
def test_the_front_of_two_objectives_is_found(sampler: str) -> None:
    search = Search(KNOBS, (PER_GPU, PER_USER), sampler=sampler, seed=3)
    for _ in range(20):
        proposal = search.ask()
        assert proposal is not None
        search.tell(proposal, Result.several([measured(dict(proposal.params))]))

    best = search.best()
    everything = itertools.product(KNOBS[0].choices, KNOBS[1].choices, (False, True))
    all_points = [measured({"width": width, "depth": depth, "good": good}) for width, depth, good in everything]
    whole = hypervolume(np.log(all_points), np.log([1.0, 10.0]))
    assert best is not None
    assert best.params in [point.params for point in search.front()]
    assert reached(search) > (0.95 if sampler == "roofline" else 0.5) * whole


def test_with_several_objectives_a_result_needs_a_value_of_each() -> None:
    search = Search(KNOBS, (PER_GPU, PER_USER))
    proposal = search.ask()
    assert proposal is not None

    with pytest.raises(ValueError, match="2 objectives"):
        search.tell(proposal, Result(10.0))


def test_the_prior_knows_several_objectives_too() -> None:
    knobs = (
        Knob("tensor_parallel_size", "int", 1, 1, 8, choices=(1, 2, 4, 8), coarse=True, searched=True),
        Knob("max_batch_size", "int", 64, 1, 512, choices=(8, 32, 128, 512), searched=True),
    )
    search = Search(
        knobs,
        (PER_GPU, PER_USER),
        hardware=Hardware(GPUS["h100-sxm"], 8),
        model=find_shape("llama-3.1-8b"),
        workload=WorkloadShape(1000, 128, (1.0, 16.0, 256.0)),
    )
    parallel = set()
    for _ in range(4):
        proposal = search.ask()
        assert proposal is not None
        parallel.add(proposal.params.get("tensor_parallel_size", 1))
        search.tell(proposal, Result.several([(10.0, 10.0)]))

    assert len(parallel) > 1, "one GPU serves most per GPU, several GPUs serve a user faster"
