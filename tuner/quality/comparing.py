"""How far a variant's greedy answers are from the reference's, token by token.

Two models that differ once go on differently for ever after, so where a variant takes another token it is put back on the
reference's path: it is asked to go on from the reference's own words. So every position is judged after exactly the same words.
Where a server cannot go on from given words (chat only), an answer is judged up to its first other token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tuner.quality.answers import END

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tuner.quality.answers import Answer

    GoOn = Callable[[str, int], Awaitable[Answer]]

MOST_RESTARTS: Final = 8
"""Times a variant is put back on the path in one answer; one that errs more often has failed anyway."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison came to.

    Attributes:
        agreed: Positions at which the variant takes the reference's token.
        compared: Positions judged.
        divergences: Of each agreed position with both log-probabilities: the absolute difference.
    """

    agreed: int
    compared: int
    divergences: tuple[float, ...] = ()

    @property
    def agreement(self) -> float:
        """Share of positions with the same token."""
        return self.agreed / self.compared if self.compared else 0.0

    @property
    def divergence(self) -> float | None:
        """Mean absolute difference of the log-probabilities, in nats; None where they are not known."""
        return sum(self.divergences) / len(self.divergences) if self.divergences else None

    @classmethod
    def sum_of(cls, parts: Sequence[Comparison]) -> Comparison:
        """Several answers together."""
        return cls(
            sum(part.agreed for part in parts),
            sum(part.compared for part in parts),
            tuple(each for part in parts for each in part.divergences),
        )


async def compare(prompt: str, reference: Answer, answer: Answer, go_on: GoOn | None) -> Comparison:
    """Compare a variant's answer with the reference's.

    Args:
        prompt: What both were asked.
        reference: The unaltered model's answer.
        answer: The variant's.
        go_on: Asks the variant to go on from a text for so many tokens; None where it cannot.
    """
    agreed = compared = place = restarts = 0
    divergences: list[float] = []
    while True:
        common = _common(reference.pieces[place:], answer.pieces)
        divergences += [
            abs(one - other)
            for one, other in zip(reference.logprobs[place : place + common], answer.logprobs, strict=False)
            if one is not None and other is not None
        ]
        agreed, compared, place = agreed + common, compared + common, place + common
        if place >= len(reference.pieces) or common == len(answer.pieces):
            break
        compared, place, restarts = compared + 1, place + 1, restarts + 1
        left = [piece for piece in reference.pieces[place:] if piece != END]
        if go_on is None or not left or restarts > MOST_RESTARTS:
            break
        answer = await go_on(prompt + "".join(reference.pieces[:place]), len(reference.pieces) - place)
    return Comparison(agreed, compared, tuple(divergences))


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the common beginning."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count
