"""Workloads: one seed, the same requests, byte for byte; lengths, arrivals and shared beginnings as asked."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tuner.load.arrivals import arrival_times_s, trace_times_s
from tuner.load.errors import BadWorkload
from tuner.load.http_request import parse_address
from tuner.load.lengths import Length
from tuner.load.plan import PlannedRequest, RequestPlan, request_id_prefix
from tuner.load.spec import (
    Arrivals,
    Cancel,
    Dataset,
    Endpoint,
    Level,
    Limits,
    Prefix,
    StopRule,
    Turns,
    Workload,
)
from tuner.load.words import COMMON_WORDS, single_token_words

LEVEL = Level("concurrency", 4)
TEXT = Endpoint("http://127.0.0.1:8000", "m")
CHAT = Endpoint("http://127.0.0.1:8000", "m", api="chat")
TOKENS = Endpoint("http://127.0.0.1:8000", "m", token_prompts=True, vocabulary_size=5000)
ANY_TURNS = 100


def requests(
    workload: Workload, endpoint: Endpoint = TEXT, level: Level = LEVEL, count: int = 20
) -> list[PlannedRequest]:
    plan = RequestPlan(workload, endpoint, level)
    return [request for _ in range(count) for request in plan.next_conversation(ANY_TURNS)]


def body(request: PlannedRequest) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(request.payload.partition(b"\r\n\r\n")[2])
    return found


def length(value: Any) -> Any:
    return TypeAdapter(Length).validate_python(value)


@pytest.mark.parametrize("endpoint", [TEXT, CHAT, TOKENS])
def test_one_seed_gives_the_same_bytes(endpoint: Endpoint) -> None:
    workload = Workload(
        isl=length({"distribution": "uniform", "min": 5, "max": 50}),
        osl=length({"distribution": "lognormal", "mean": 20, "std": 10}),
        prefix=Prefix(tokens=10, pool=2),
        turns=Turns(count=length([1, 2, 3]), think_s=1, think_std_s=0.5),
        cancel=Cancel(share_ratio=0.3),
        seed=42,
    )
    assert requests(workload, endpoint) == requests(workload, endpoint)
    assert requests(workload, endpoint) != requests(workload.model_copy(update={"seed": 43}), endpoint)


def test_requests_carry_ids_that_can_be_foretold() -> None:
    for request in requests(Workload(seed=5), count=3):
        expected = f"\r\nX-Request-ID: {request_id_prefix(Workload(seed=5), LEVEL)}{request.index}\r\n"
        assert expected.encode() in request.payload


def test_how_many_requests_are_wanted_changes_none_of_them() -> None:
    workload = Workload(isl=length([5, 9]), turns=Turns(count=length([2, 4])), cancel=Cancel(share_ratio=0.5))
    plan = RequestPlan(workload, TEXT, LEVEL)
    cut = [plan.next_conversation(1) for _ in range(5)]
    whole = RequestPlan(workload, TEXT, LEVEL)
    for (first,) in cut:
        assert body(first)["prompt"] == body(whole.next_conversation(ANY_TURNS)[0])["prompt"]
        assert not first.more


def test_levels_share_no_prompts_but_shared_prefixes() -> None:
    workload = Workload(isl=length(30), prefix=Prefix(tokens=20))
    one, other = (body(requests(workload, TOKENS, Level("concurrency", value))[0])["prompt"] for value in (1, 2))
    assert one[:20] == other[:20]
    assert one[20:] != other[20:]


def test_token_prompts_have_the_exact_length_and_legal_ids() -> None:
    for request in requests(Workload(isl=length([1, 17, 300])), TOKENS):
        prompt = body(request)["prompt"]
        assert len(prompt) == request.isl_tokens
        assert all(0 <= token < 5000 for token in prompt)


def test_text_prompts_have_a_word_per_token() -> None:
    for request in requests(Workload(isl=length(25))):
        assert len(body(request)["prompt"].split(" ")) == request.isl_tokens == 25


@pytest.mark.parametrize(
    ("value", "low", "high", "mean"),
    [
        (128, 128, 128, 128),
        ([10, 20], 10, 20, 15),
        ({"distribution": "uniform", "min": 10, "max": 30}, 10, 30, 20),
        ({"distribution": "normal", "mean": 100, "std": 10}, 1, 200, 100),
        ({"distribution": "lognormal", "mean": 200, "std": 120}, 1, 10_000, 200),
        ({"distribution": "empirical", "values": [1, 9], "weights": [3, 1]}, 1, 9, 3),
    ],
)
def test_lengths_follow_their_distribution(value: Any, low: int, high: int, mean: float) -> None:
    distribution = length(value)
    drawn = distribution.sample(np.random.default_rng(1), 20_000)
    assert low <= drawn.min()
    assert drawn.max() <= high
    assert drawn.mean() == pytest.approx(mean, rel=0.03)
    assert distribution.mean_tokens() == pytest.approx(mean)


def test_osl_is_asked_for_and_extra_fields_win() -> None:
    workload = Workload(osl=length(77), extra={"temperature": 0, "ignore_eos": None})
    sent = body(requests(workload, Endpoint(TEXT.url, "m", continuous_usage=True, extra_body={"top_k": 1}))[0])
    assert sent["max_tokens"] == 77
    assert sent["temperature"] == 0
    assert sent["top_k"] == 1
    assert "ignore_eos" not in sent
    assert sent["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


@pytest.mark.parametrize(
    ("arrivals", "variation"),
    [
        (Arrivals(pattern="constant"), 0.0),
        (Arrivals(pattern="poisson"), 1.0),
        (Arrivals(pattern="gamma", burstiness=0.25), 2.0),
        (Arrivals(pattern="gamma", burstiness=4.0), 0.5),
    ],
)
def test_arrivals_have_the_asked_rate_and_burstiness(arrivals: Arrivals, variation: float) -> None:
    times = list(islice(arrival_times_s(arrivals, 50.0, 3), 20_000))
    gaps = np.diff(times)
    assert gaps.mean() == pytest.approx(0.02, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.05)
    assert times == list(islice(arrival_times_s(arrivals, 50.0, 3), 20_000))


def test_a_ramp_sends_half_as_many_requests() -> None:
    times = np.array(list(islice(arrival_times_s(Arrivals(pattern="constant", ramp_s=10), 100.0, 0), 2000)))
    assert np.count_nonzero(times < 10) == pytest.approx(500, abs=2)
    assert np.count_nonzero((times >= 10) & (times < 15)) == pytest.approx(500, abs=2)


@given(st.lists(st.floats(0, 1e4), min_size=2, max_size=20), st.floats(0.1, 100))
def test_a_trace_is_stretched_to_the_rate_and_goes_on(stamps: list[float], rate: float) -> None:
    times = list(islice(trace_times_s(sorted(stamps), rate), 3 * len(stamps)))
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(times))
    assert times[2 * len(stamps)] == pytest.approx(2 * len(stamps) / rate)


def test_a_ramp_slows_the_beginning_of_a_trace_down() -> None:
    stamps = [place / 7 for place in range(2000)]
    times = np.array(list(islice(trace_times_s(stamps, 100.0, 10.0), 2000)))
    assert np.count_nonzero(times < 10) == pytest.approx(500, abs=2)
    assert np.count_nonzero((times >= 10) & (times < 15)) == pytest.approx(500, abs=2)


def test_cancelled_requests_are_the_asked_share() -> None:
    found = requests(Workload(cancel=Cancel(share_ratio=0.25, after_min_s=1, after_max_s=2)), count=2000)
    delays = [request.cancel_after_ns for request in found if request.cancel_after_ns >= 0]
    assert len(delays) == pytest.approx(500, rel=0.15)
    assert all(1e9 <= delay <= 2e9 for delay in delays)


def test_planned_conversations_hold_all_that_was_said() -> None:
    found = requests(Workload(isl=length(5), osl=length(7), turns=Turns(count=length(3), think_s=2)), CHAT, count=1)
    talks = [body(request)["messages"] for request in found]
    assert [len(talk) for talk in talks] == [1, 3, 5]
    assert talks[2][:3] == talks[1]
    assert [message["role"] for message in talks[2]] == ["user", "assistant", "user", "assistant", "user"]
    assert [request.isl_tokens for request in found] == [5, 5 + 7 + 5, 5 + 7 + 5 + 7 + 5]
    assert [request.think_ns for request in found] == [0, 2_000_000_000, 2_000_000_000]
    assert [request.later_turns for request in found] == [2, 1, 0]


def test_conversations_can_go_on_with_what_the_server_said() -> None:
    plan = RequestPlan(Workload(turns=Turns(count=length(2), history="server")), CHAT, LEVEL)
    first, second = plan.next_conversation(ANY_TURNS)
    assert second.payload == b""
    following = plan.continue_conversation(first.session, "server's words", 2)
    assert following is not None
    assert body(following)["messages"][1] == {"role": "assistant", "content": "server's words"}
    assert plan.continue_conversation(first.session, "", 0) is None


def write(path: Path, *items: object) -> Path:
    path.write_bytes(b"\n".join(orjson.dumps(item) for item in items))
    return path


def test_sharegpt_conversations(tmp_path: Path) -> None:
    talk = [
        {"from": "gpt", "value": "hello"},
        {"from": "human", "value": "q1"},
        {"from": "gpt", "value": "a1"},
        {"from": "human", "value": "q2"},
    ]
    path = tmp_path / "share.json"
    path.write_bytes(orjson.dumps([{"conversations": talk}, {"conversations": []}]))
    found = requests(Workload(dataset=Dataset(path=path, format="sharegpt")), CHAT, count=1)
    assert [message["content"] for message in body(found[1])["messages"]] == ["q1", "a1", "q2"]


def test_jsonl_prompts_and_messages(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    path = write(
        tmp_path / "p.jsonl", {"prompt": "one", "output_tokens": 5}, {"messages": messages, "extra": {"temperature": 1}}
    )
    dataset = Dataset(path=path, format="jsonl")
    one, two = requests(Workload(dataset=dataset, osl=length(9)), CHAT, count=2)
    assert body(one)["messages"][0]["content"] == "one"
    assert body(one)["max_tokens"] == 5
    assert body(two)["messages"] == messages
    assert body(two)["max_tokens"] == 9
    assert body(two)["temperature"] == 1
    text = requests(Workload(dataset=dataset), TEXT, count=2)
    assert "messages" not in body(text[1])
    assert body(text[1])["prompt"] == "be brief\nhi"


def test_mooncake_traces_share_blocks_and_keep_their_times(tmp_path: Path) -> None:
    lines = [
        {"timestamp": 0, "input_length": 10, "output_length": 3, "hash_ids": [1, 2]},
        {"timestamp": 1000, "input_length": 9, "output_length": 4, "hash_ids": [1, 3]},
        {"timestamp": 3000, "input_length": 2, "output_length": 5, "hash_ids": []},
    ]
    dataset = Dataset(path=write(tmp_path / "trace.jsonl", *lines), format="mooncake", block_tokens=4)
    workload = Workload(dataset=dataset, arrivals=Arrivals(pattern="trace"))
    found = requests(workload, TOKENS, Level("rate", 2.0), count=3)
    prompts = [body(request)["prompt"] for request in found]
    assert [len(prompt) for prompt in prompts] == [10, 9, 2]
    assert prompts[0][:4] == prompts[1][:4]
    assert prompts[0][4:8] != prompts[1][4:8]
    assert [body(request)["max_tokens"] for request in found] == [3, 4, 5]
    assert [request.due_ns / 1e9 for request in found] == pytest.approx([0, 1 / 3, 1])


@pytest.mark.parametrize("endpoint", [TOKENS, TEXT])
def test_the_partly_filled_last_block_of_a_mooncake_prompt_is_shared_as_well(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    lengths = [(7, [1, 2]), (7, [1, 2]), (6, [1, 2]), (7, [1])]
    lines = [{"timestamp": 0, "input_length": n, "output_length": 1, "hash_ids": ids} for n, ids in lengths]
    dataset = Dataset(path=write(tmp_path / "trace.jsonl", *lines), format="mooncake", block_tokens=4)

    found = [body(request)["prompt"] for request in requests(Workload(dataset=dataset), endpoint, count=4)]

    prompts = [prompt.split(" ") if isinstance(prompt, str) else prompt for prompt in found]
    assert [len(prompt) for prompt in prompts] == [7, 7, 6, 7]
    assert prompts[0] == prompts[1]
    assert prompts[2] == prompts[0][:6]
    assert prompts[3][:4] == prompts[0][:4]
    assert prompts[3] != prompts[0]


@pytest.mark.parametrize(
    ("kind", "content", "says"),
    [
        ("sharegpt", b"{}", "JSON list"),
        ("sharegpt", b"[1]", "entry 0"),
        ("sharegpt", b"[]", "no usable entry"),
        ("sharegpt", b"[", "no JSON"),
        ("jsonl", b'{"prompt": "a"}\nnonsense', "line 2"),
        ("jsonl", b'{"output_tokens": 5}', "prompt"),
        ("jsonl", b'{"prompt": "a", "output_tokens": -1}', "output_tokens"),
        ("jsonl", b'\xef\xbb\xbf{"prompt": "a"}\n{"prompt": "a", "output_tokens": true}', "line 2: output_tokens"),
        ("mooncake", b'{"timestamp": 0}', "input_length"),
        ("mooncake", b'{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": ["x"]}', "hash_ids"),
    ],
)
def test_malformed_datasets_are_named(tmp_path: Path, kind: Any, content: bytes, says: str) -> None:
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(BadWorkload, match=says) as caught:
        RequestPlan(Workload(dataset=Dataset(path=path, format=kind)), TEXT, LEVEL)
    assert "\n" not in str(caught.value)


def test_a_missing_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadWorkload, match="No such file"):
        RequestPlan(Workload(dataset=Dataset(path=tmp_path / "none", format="jsonl")), TEXT, LEVEL)


def test_words_come_from_a_local_tokenizer(tmp_path: Path) -> None:
    known = list(COMMON_WORDS[:60])
    vocabulary = {"Ġ" + word: place for place, word in enumerate(known)} | {"Ġ<tool>": 100, "the": 101, "Ġx": 102}
    (tmp_path / "tokenizer.json").write_bytes(orjson.dumps({"model": {"type": "BPE", "vocab": vocabulary}}))
    assert single_token_words(str(tmp_path)) == tuple(sorted(known))
    pieces = [["▁" + word, -1.0] for word in known]
    (tmp_path / "tokenizer.json").write_bytes(orjson.dumps({"model": {"type": "Unigram", "vocab": pieces}}))
    assert single_token_words(str(tmp_path / "tokenizer.json")) == tuple(sorted(known))


def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b"[]")
    with pytest.raises(BadWorkload, match="plain words"):
        single_token_words(str(path))


@pytest.mark.parametrize(
    ("url", "api", "path"),
    [
        ("http://h:1", "completions", "/v1/completions"),
        ("http://h:1/", "chat", "/v1/chat/completions"),
        ("http://h:1/v1", "completions", "/v1/completions"),
        ("http://h:1/v1/", "chat", "/v1/chat/completions"),
        ("http://h:1/proxy/v1/completions", "completions", "/proxy/v1/completions"),
        ("https://h/v1?key=a", "chat", "/v1/chat/completions?key=a"),
        ("http://[::1]:9", "triton", "/v2/models/m/generate_stream"),
    ],
)
def test_urls_lead_to_the_api(url: str, api: Any, path: str) -> None:
    address = parse_address(Endpoint(url, "m", api=api))
    assert address.path == path
    assert address.host in ("h", "::1")


@pytest.mark.parametrize("url", ["h:1", "ftp://h", "http://", "http://user:secret@h", "http://h:99999", "http://h/a b"])
def test_other_urls_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(BadWorkload) as caught:
        parse_address(Endpoint(url, "m"))
    assert "secret" not in str(caught.value)


def test_headers_are_sent_and_never_shown() -> None:
    endpoint = Endpoint(TEXT.url, "m", headers={"Authorization": "Bearer s3cret"})
    assert b"\r\nAuthorization: Bearer s3cret\r\n" in requests(Workload(), endpoint, count=1)[0].payload
    assert "s3cret" not in repr(endpoint)
    with pytest.raises(BadWorkload) as caught:
        RequestPlan(Workload(), Endpoint(TEXT.url, "m", headers={"Authorization": "s3cret\r\nX: y"}), LEVEL)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "data", "says"),
    [
        (Workload, {"isl": 0}, "isl"),
        (Workload, {"isl": {"distribution": "uniform", "min": 9, "max": 2}}, "min 9 is above max 2"),
        (Workload, {"osl": {"distribution": "zipf"}}, "osl"),
        (Workload, {"ils": 5}, "ils"),
        (Workload, {"arrivals": {"pattern": "trace"}}, "mooncake"),
        (Workload, {"cancel": {"share_ratio": 1.5}}, "cancel.share_ratio"),
        (StopRule, {"max_s": None}, "never end"),
        (StopRule, {"precision": 2}, "precision"),
        (StopRule, {"min_s": 90}, "above max_s"),
        (StopRule, {"max_s": float("inf")}, "finite"),
        (Workload, {"isl": {"distribution": "lognormal", "mean": 100, "std": float("inf")}}, "finite"),
        (Limits, {"idle_timeout_s": -1}, "idle_timeout_s"),
    ],
)
def test_a_bad_value_is_refused_with_its_field(model: Any, data: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        model.model_validate(data)


@pytest.mark.parametrize(("kind", "value"), [("concurrency", 0), ("concurrency", 1.5), ("rate", -1), ("users", 3)])
def test_a_level_that_makes_no_sense_is_refused(kind: Any, value: float) -> None:
    with pytest.raises(BadWorkload):
        Level(kind, value)


def test_token_prompts_need_the_completions_api() -> None:
    with pytest.raises(BadWorkload, match="completions"):
        RequestPlan(Workload(), Endpoint(TEXT.url, "m", api="chat", token_prompts=True), LEVEL)


@pytest.mark.parametrize(("field", "value"), [("metric", "tttf"), ("stat", "p42")])
def test_a_stop_rule_for_nothing_that_is_measured_is_refused(field: str, value: str) -> None:
    with pytest.raises(ValidationError, match=f"{value}.* is unknown; there are: "):
        StopRule.model_validate({field: value})
