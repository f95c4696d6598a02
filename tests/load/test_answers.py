"""What answers say, in the dialects of real servers."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.load.answers import StreamedAnswer, error_text, one_line
from tuner.load.hotpath.frames import FRAMING_CLOSE
from tuner.load.sse import EventSplitter

DATA = Path(__file__).parents[1] / "data" / "sse"


def read(body: bytes, *, keep_text: bool = False) -> tuple[StreamedAnswer, list[int]]:
    splitter = EventSplitter(FRAMING_CLOSE)
    answer = StreamedAnswer(keep_text=keep_text)
    events = splitter.feed(body) + splitter.close()
    return answer, [tokens for event in events if (tokens := answer.take(event))]


def stream(*messages: object, end: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: " + orjson.dumps(message) + b"\n\n" for message in messages) + end


def text_chunk(text: str, usage: int | None = None, finish: str | None = None) -> dict[str, object]:
    message: dict[str, object] = {"choices": [{"index": 0, "text": text, "finish_reason": finish}]}
    if usage is not None:
        message["usage"] = {"prompt_tokens": 9, "completion_tokens": usage, "total_tokens": 9 + usage}
    return message


def final_usage(tokens: int) -> dict[str, object]:
    return {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}}


@pytest.mark.parametrize(
    ("name", "chunks", "usage", "counted"),
    [
        ("chat_stream.sse", [1, 1, 1, 1], -1, False),
        ("chat_stream_usage.sse", [1, 1, 1, 1], 4, True),
        ("completions_stream.sse", [1, 1, 1, 1], -1, False),
        ("completions_stream_usage.sse", [1, 1, 1, 1], 4, True),
        ("completions_stream_usage_final_only.sse", [1, 1, 1, 1], 4, False),
    ],
)
def test_tensorrt_llm_streams(name: str, chunks: list[int], usage: int, counted: bool) -> None:
    body = (DATA / name).read_bytes().partition(b"\r\n\r\n")[2]
    answer, tokens = read(body)
    assert tokens == chunks
    assert answer.completion_tokens == usage
    assert answer.counted == counted
    assert answer.done
    assert answer.finish_reason == "length"
    assert answer.fault == ""


def test_a_stream_cut_by_an_executor_error_keeps_its_tokens_and_has_no_end_mark() -> None:
    body = (DATA / "fail_completions_stream.sse").read_bytes().partition(b"\r\n\r\n")[2]
    answer, tokens = read(body)
    assert tokens == [1, 1]
    assert not answer.done
    assert answer.finish_reason == ""


@pytest.mark.parametrize(
    "empty", [{"role": "assistant", "content": ""}, {"role": "assistant", "content": None}, {"role": "assistant"}]
)
def test_the_role_chunk_is_no_token(empty: dict[str, object]) -> None:
    _, tokens = read(stream({"choices": [{"delta": empty}]}, {"choices": [{"delta": {"content": "a"}}]}))
    assert tokens == [1]


def test_reasoning_and_tool_calls_are_tokens() -> None:
    _, tokens = read(
        stream(
            {"choices": [{"delta": {"reasoning_content": "hm"}}]},
            {"choices": [{"delta": {"reasoning": "hm"}}]},
            {"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]},
        )
    )
    assert tokens == [1, 1, 1]


def test_usage_on_every_chunk_counts_tokens_per_chunk() -> None:
    answer, tokens = read(stream(text_chunk("ab", 2), text_chunk("cdef", 6), text_chunk("", 7), final_usage(7)))
    assert tokens == [2, 4, 1]
    assert answer.counted
    assert answer.completion_tokens == 7


def test_usage_on_the_last_choice_only_does_not_count_the_whole_answer_again() -> None:
    answer, tokens = read(stream(text_chunk("a"), text_chunk("b"), text_chunk("", 2, "stop"), end=b""))
    assert tokens == [1, 1]
    assert answer.completion_tokens == 2
    assert answer.finish_reason == "stop"


def test_usage_null_is_no_usage() -> None:
    answer, tokens = read(stream({**text_chunk("a"), "usage": None}))
    assert tokens == [1]
    assert answer.completion_tokens == -1


def test_a_named_event_after_the_end_mark_is_no_token_and_no_fault() -> None:
    body = stream(text_chunk("a")) + b'event: trtllm.perf_metrics\ndata: {"server_ttft": 1.5}\n\n'
    answer, tokens = read(body)
    assert tokens == [1]
    assert answer.done
    assert answer.fault == ""


def test_cached_tokens_are_read() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}}
    answer, _ = read(stream(text_chunk("a"), {"choices": [], "usage": usage}))
    assert answer.cached_tokens == 4


def test_triton_streams_have_text_output() -> None:
    _, tokens = read(stream({"model_name": "m", "text_output": "a"}, {"model_name": "m", "text_output": "b"}, end=b""))
    assert tokens == [1, 1]


def test_ids_that_differ_per_chunk_are_one_answer() -> None:
    _, tokens = read(stream({"id": "1", **text_chunk("a")}, {"id": "2", **text_chunk("b")}))
    assert tokens == [1, 1]


def test_broken_characters_lose_no_token() -> None:
    body = b'data: {"choices":[{"text":"\xff\xfe"}]}\n\n' + stream(text_chunk("b"))
    answer, tokens = read(body)
    assert tokens == [1, 1]
    assert answer.fault == ""


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        (b'data: {"error": {"message": "out of pages", "code": 500}}\n\n', "out of pages"),
        (b"event: error\ndata: out of pages\n\n", "out of pages"),
        (b"data: null\n\n", "no JSON object: null"),
        (b'data: {"choices": [{"te\n\n', "no JSON"),
        (b"data: 17\n\n", "no JSON object"),
    ],
)
def test_faults_are_named_and_tokens_around_them_kept(event: bytes, fault: str) -> None:
    answer, tokens = read(stream(text_chunk("a"), end=b"") + event + stream(text_chunk("b")))
    assert fault in answer.fault
    assert tokens == [1, 1]


@pytest.mark.parametrize(
    "message",
    [
        {"choices": "no list"},
        {"choices": [None, 3, {"delta": "no object", "text": 5}]},
        {"choices": [{"text": ["no text"]}], "usage": "no object"},
        {"choices": [{"text": "a"}], "usage": {"completion_tokens": -4, "prompt_tokens": True}},
        {"usage": {"completion_tokens": 1 << 62}},
    ],
)
def test_values_of_the_wrong_type_are_left_aside(message: object) -> None:
    answer, _ = read(stream(message))
    assert answer.completion_tokens == -1
    assert answer.prompt_tokens == -1


FIELDS = st.sampled_from(["choices", "delta", "text", "content", "usage", "completion_tokens", "error"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=4), st.binary(max_size=60))
def test_no_answer_makes_the_reader_fail(messages: list[object], garbage: bytes) -> None:
    answer, tokens = read(stream(*messages, end=b"data: ") + garbage + b"\n\n")
    assert all(count > 0 for count in tokens)
    assert "\n" not in answer.fault


@given(st.lists(st.sampled_from(["text", "empty", "garbage", "comment", "error"]), max_size=20))
def test_no_token_is_lost_whatever_comes_between(kinds: list[str]) -> None:
    pieces = {
        "text": stream(text_chunk("a"), end=b""),
        "empty": stream(text_chunk(""), end=b""),
        "garbage": b"data: {nonsense\n\n",
        "comment": b": ping\n\n",
        "error": b'data: {"error": "no"}\n\n',
    }
    _, tokens = read(b"".join(pieces[kind] for kind in kinds))
    assert sum(tokens) == kinds.count("text")


def test_text_is_kept_when_asked_for() -> None:
    answer, _ = read(stream(text_chunk("Hello"), text_chunk(" you")), keep_text=True)
    assert "".join(answer.text) == "Hello you"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": {"message": "too long", "type": "x"}}', "too long"),
        (b'{"object": "error", "message": "too long"}', "too long"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"detail": [{"loc": ["body"], "msg": "bad value"}]}', "bad value"),
        (b"<html>\r\n<b>502</b>", "<html> <b>502</b>"),
        (b"", ""),
    ],
)
def test_error_bodies_become_one_line(body: bytes, text: str) -> None:
    assert error_text(body) == text


def test_control_characters_of_servers_do_not_reach_the_terminal() -> None:
    assert one_line("a\x1b[31mb\nc\u202ed") == "a [31mb c d"
    assert len(one_line("x" * 10_000)) == 200
