"""Events recognised by their likeness mean exactly what parsing them would have said."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tuner.load.answers import StreamedAnswer
from tuner.load.likeness import Likeness, Tails

texts = st.text(st.characters(codec="utf-8"), min_size=0, max_size=8)
totals = st.integers(0, 10_000)


def message(text: str, total: int | None, finish: str | None = None, role: str | None = None) -> bytes:
    delta: dict[str, Any] = {"content": text} if role is None else {"role": role, "content": text}
    body: dict[str, Any] = {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    if total is not None:
        body["usage"] = {"prompt_tokens": 7, "total_tokens": 7 + total, "completion_tokens": total}
    return orjson.dumps(body)


def chunk(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def taught(data: bytes) -> tuple[Likeness, StreamedAnswer]:
    """A likeness that has seen an event, and an answer that has read it."""
    likeness, answer = Likeness(Tails()), StreamedAnswer()
    answer.take(("", data))
    likeness.learn(("", data))
    return likeness, answer


def state(answer: StreamedAnswer) -> tuple[object, ...]:
    return (
        answer.fault,
        answer.done,
        answer.finish_reason,
        answer.prompt_tokens,
        answer.completion_tokens,
        answer.counted,
    )


@given(st.lists(st.tuples(texts, totals), min_size=1, max_size=6), st.booleans(), st.sampled_from([None, "stop"]))
def test_recognised_events_mean_what_parsed_ones_mean(
    events: list[tuple[str, int]], counted: bool, finish: str | None
) -> None:
    messages = [message(text, total if counted else None) for text, total in events]
    messages[-1] = message(events[-1][0], events[-1][1] if counted else None, finish)
    likeness, quick = taught(message("a", 1 if counted else None))
    _, slow = taught(message("a", 1 if counted else None))
    body = b"".join(map(chunk, messages))
    tokens: list[int] = []
    at = likeness.take(quick, body, 0, tokens, [])
    known = body[:at].count(b"data: ")
    told = [slow.take(("", data)) for data in messages[:known]]
    assert tokens == [count for count in told if count]
    assert state(quick) == state(slow)


def test_plain_events_are_recognised() -> None:
    body = chunk(message(" b", 2)) + chunk(message('\\"\n', 4)) + chunk(message("ü", 5))
    likeness, answer = taught(message("a", 1))
    tokens: list[int] = []
    ends: list[int] = []
    assert likeness.take(answer, body, 0, tokens, ends) == len(body)
    assert tokens == [1, 2, 1]
    assert ends[-1] == len(body)


@given(st.binary(max_size=80), st.integers(0, 200))
def test_whatever_comes_it_stops_at_what_it_does_not_know(junk: bytes, cut: int) -> None:
    good = chunk(message("b", 2))
    likeness, answer = taught(message("a", 1))
    body = good + good[: cut % len(good)] + junk
    at = likeness.take(answer, body, 0, [], [])
    assert at in (len(good), 2 * len(good)) or body[:at] == good * (at // len(good))


def test_nothing_is_learned_from_what_has_text_in_two_places_or_ends_the_answer() -> None:
    twice = b'{"text":"x","choices":[{"text":"a","finish_reason":null}]}'
    for data in (twice, message("a", None, "stop"), message("a", None, role="assistant")[:-1]):
        likeness, answer = taught(data)
        assert likeness.take(answer, chunk(data), 0, [], []) == 0


def test_a_chunk_whose_size_is_a_lie_is_left_to_the_parser() -> None:
    likeness, answer = taught(message("a", 1))
    assert likeness.take(answer, b"5" + chunk(message("b", 2)), 0, [], []) == 0
