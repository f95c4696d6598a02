"""The search space: the plan's wishes against the engine's knobs."""

from __future__ import annotations

import pytest

from tests.tuner.knobs import KNOBS
from tuner.errors import BadPlan, NothingToSearch
from tuner.plan import KnobRange, KnobValue
from tuner.search.space import build_space


def test_without_wishes_the_engines_own_choice_is_searched() -> None:
    space = build_space(KNOBS, {}, {})

    assert set(space.distributions) == {"batch", "chunked"}
    assert space.baseline == {}


def test_ranges_and_lists_are_searched_and_single_values_are_fixed() -> None:
    space = build_space(
        KNOBS, {"batch": KnobRange(low=4, high=64), "fraction": (0.8, 0.9), "tokens": 2048}, {"batch": 16}
    )

    assert set(space.distributions) == {"batch", "fraction"}
    assert space.fixed == {"tokens": 2048}
    assert space.baseline == {"tokens": 2048, "batch": 16}
    assert space.complete({"batch": 4, "fraction": 0.8}) == {"tokens": 2048, "batch": 4, "fraction": 0.8}


def test_a_knob_without_effect_is_left_out_so_that_equal_servers_look_equal() -> None:
    space = build_space(KNOBS, {"chunked": (False, True), "policy": ("a", "b")}, {})

    assert space.complete({"chunked": False, "policy": "b"}) == {"chunked": False}
    assert space.complete({"chunked": True, "policy": "b"}) == {"chunked": True, "policy": "b"}


def test_a_default_left_to_the_server_cannot_be_a_searched_value() -> None:
    space = build_space(KNOBS, {"length": KnobRange(low=10, high=20)}, {})

    assert space.searched_part({}) is None
    assert space.searched_part({"length": 12}) == {"length": 12}
    assert space.searched_part({"length": 21}) is None


def test_advice_between_two_choices_may_be_moved_to_either_and_sizes_are_compared_by_their_ratio() -> None:
    space = build_space(KNOBS, {"batch": (8, 32, 256), "fraction": (0.8, 0.9)}, {})

    near = space.near({"batch": 128, "fraction": 0.9})

    assert [values["batch"] for values in near] == [256, 32]
    assert {values["fraction"] for values in near} == {0.9}


def test_advice_is_moved_up_rather_than_down() -> None:
    space = build_space(KNOBS, {"batch": (64, 128, 256), "length": (32, 128)}, {})

    near = [(values["batch"], values["length"]) for values in space.near({"batch": 64, "length": 64})]

    assert near[:3] == [(64, 128), (128, 128), (256, 128)]
    assert near[3] == (64, 32), "only then what would hold the load back"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"batsch": 4}, "knobs.batsch: this engine has no such knob; did you mean batch"),
        ({"batch": KnobRange(low=0, high=8)}, "knobs.batch = 0: allowed is an integer from 1 to 256"),
        ({"batch": (8, 300)}, "knobs.batch = 300"),
        ({"batch": "many"}, "knobs.batch = 'many'"),
        ({"batch": ()}, "the list of choices is empty"),
        ({"chunked": KnobRange(low=0, high=1)}, "takes choices, not a range"),
        ({"policy": ("a", "c")}, "allowed are a, b"),
        ({"chunked": (0, 1)}, "allowed are true and false"),
        ({"fraction": 1.5}, "allowed is a number from 0 to 1"),
    ],
)
def test_an_impossible_wish_is_refused_with_what_is_allowed(
    wanted: dict[str, KnobRange | tuple[KnobValue, ...] | KnobValue], message: str
) -> None:
    with pytest.raises(BadPlan) as caught:
        build_space(KNOBS, wanted, {})

    assert message in str(caught.value)


def test_a_baseline_outside_the_domain_is_refused() -> None:
    with pytest.raises(BadPlan, match=r"baseline\.batch = 0"):
        build_space(KNOBS, {}, {"batch": 0})


def test_nothing_to_search_is_said() -> None:
    with pytest.raises(NothingToSearch):
        build_space(KNOBS, {"batch": 4}, {})
