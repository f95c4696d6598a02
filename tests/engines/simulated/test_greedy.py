"""At temperature 0 the pretend model answers by the text before alone, and quantisation changes a stated share."""

from __future__ import annotations

import pytest

from engines.simulated.greedy import GreedyModel, parse_losses

UNALTERED = GreedyModel({})
TEXT = "Question: what is a token?\nAnswer:"


def test_the_same_text_gets_the_same_answer_and_words_can_be_put_into_its_mouth() -> None:
    whole = UNALTERED.answer(TEXT, 40)
    beginning = "".join(word for word, _ in whole[:15])

    assert UNALTERED.answer(TEXT, 40) == whole
    assert UNALTERED.answer(TEXT + beginning, 25) == whole[15:]


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_a_stated_share_of_next_words_changes(share: float) -> None:
    altered = GreedyModel({"kv fp8": share})
    texts = [f"prompt {number} about something" for number in range(3000)]

    changed = sum(altered.answer(text, 1)[0][0] != UNALTERED.answer(text, 1)[0][0] for text in texts)

    assert changed / len(texts) == pytest.approx(share, rel=0.25)


def test_shares_are_read_and_wrong_ones_refused() -> None:
    assert parse_losses(["fp8=0.3"]) == {"fp8": 0.3}
    for wrong in ("fp9=0.3", "fp8", "fp8=2"):
        with pytest.raises(ValueError, match="fp"):
            parse_losses([wrong])
