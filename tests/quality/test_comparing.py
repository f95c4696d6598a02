"""Greedy answers are compared position by position, each after the reference's own words."""

from __future__ import annotations

import asyncio

import pytest

from engines.simulated.greedy import GreedyModel
from tuner.goals import QualityPlan
from tuner.quality.answers import END, Answer, Way
from tuner.quality.checking import Reference, verdict_on
from tuner.quality.comparing import Comparison, compare

PROMPTS = [f"Task {number}: say something about it.\n" for number in range(40)]
REFERENCE = GreedyModel({})


def ask(model: GreedyModel, text: str, tokens: int = 40) -> Answer:
    told = model.answer(text, tokens)
    return Answer(tuple(word for word, _ in told), tuple(logprob for _, logprob in told))


def compare_with(model: GreedyModel, *, can_go_on: bool = True) -> Comparison:
    async def go_on(text: str, tokens: int) -> Answer:
        return ask(model, text, tokens)

    async def everything() -> list[Comparison]:
        return [
            await compare(prompt, ask(REFERENCE, prompt), ask(model, prompt), go_on if can_go_on else None)
            for prompt in PROMPTS
        ]

    return Comparison.sum_of(asyncio.run(everything()))


def test_a_model_agrees_with_itself() -> None:
    found = compare_with(REFERENCE)

    assert (found.agreement, found.divergence) == (1.0, 0.0)
    assert found.compared == 40 * len(PROMPTS)


@pytest.mark.parametrize("share", [0.02, 0.1])
@pytest.mark.parametrize("can_go_on", [True, False])
def test_the_share_of_changed_next_words_is_what_is_found(share: float, can_go_on: bool) -> None:
    found = compare_with(GreedyModel({"weights fp8": share}), can_go_on=can_go_on)

    assert 1 - found.agreement == pytest.approx(share, rel=0.4)
    assert found.divergence == pytest.approx(share / 2, rel=0.2), "uniform within ±share"


def test_going_on_judges_more_of_an_answer_than_giving_up() -> None:
    model = GreedyModel({"weights fp8": 0.1})

    assert compare_with(model).compared > 2 * compare_with(model, can_go_on=False).compared


def test_an_answer_that_ends_too_early_differs_there() -> None:
    reference = Answer(("a", "b", "c", END), (None,) * 4)

    found = asyncio.run(compare("p", reference, Answer(("a", END), (None, None)), None))

    assert (found.agreed, found.compared) == (1, 2)


@pytest.mark.parametrize(
    ("found", "lost", "passed"),
    [
        (Comparison(95, 100, (0.05,)), {}, True),
        (Comparison(85, 100, (0.05,)), {}, False),
        (Comparison(95, 100, (0.5,)), {}, False),
        (Comparison(95, 100), {}, True),
        (Comparison(95, 100), {"gsm8k": 0.05}, False),
    ],
)
def test_every_threshold_of_the_plan_can_fail_a_variant(
    found: Comparison, lost: dict[str, float], passed: bool
) -> None:
    reference = Reference("x", Way("completions", True), (), 0.998, {})

    told = verdict_on(found, lost, reference, QualityPlan())

    assert told["passed"] is passed
    assert told["text"].startswith("passed" if passed else "failed")
    assert "itself to 99.8%" in told["text"]
