"""Answers of the simulated server have the keys, order, types and texts of the captured ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.engines.simulated.sim_server import captured, captured_json, events, running_server, shape

MODEL = "tiny-llama"
PROMPT = [11, 12]
CHAT = [{"role": "user", "content": "hello there"}]
COMPLETION = {"model": MODEL, "prompt": PROMPT, "max_tokens": 4, "ignore_eos": True}
CHAT_BODY = {"model": MODEL, "messages": CHAT, "max_tokens": 4, "ignore_eos": True}
FINAL_ONLY = {"include_usage": True, "continuous_usage_stats": False}


@pytest.mark.parametrize(
    ("capture", "path", "body"),
    [
        ("completion_ignore_eos.json", "/v1/completions", {**COMPLETION, "max_tokens": 30}),
        ("completions_2prompts.json", "/v1/completions", {**COMPLETION, "prompt": ["one", "two"], "max_tokens": 2}),
        ("other_model_name.json", "/v1/completions", {**COMPLETION, "model": "no-such-model", "max_tokens": 2}),
        ("chat.json", "/v1/chat/completions", CHAT_BODY),
    ],
)
async def test_whole_answers_have_the_captured_shape(capture: str, path: str, body: dict[str, Any]) -> None:
    async with running_server() as server:
        status, answer = await server.post(path, body)

    assert status == 200
    assert shape(json.loads(answer)) == shape(captured_json(capture))


@pytest.mark.parametrize(
    ("capture", "path", "body"),
    [
        ("completions_stream.sse", "/v1/completions", COMPLETION),
        ("completions_stream_usage.sse", "/v1/completions", {**COMPLETION, "stream_options": {"include_usage": True}}),
        ("completions_stream_usage_final_only.sse", "/v1/completions", {**COMPLETION, "stream_options": FINAL_ONLY}),
        ("chat_stream.sse", "/v1/chat/completions", CHAT_BODY),
        ("chat_stream_usage.sse", "/v1/chat/completions", {**CHAT_BODY, "stream_options": {"include_usage": True}}),
    ],
)
async def test_streams_have_the_captured_events_in_the_captured_order(
    capture: str, path: str, body: dict[str, Any]
) -> None:
    async with running_server() as server:
        status, answer = await server.post(path, {**body, "stream": True})

    assert status == 200
    assert shape(events(answer)) == shape(events(captured(capture)[1]))


async def test_two_prompts_stream_as_two_choices() -> None:
    body = {**COMPLETION, "prompt": ["one", "two"], "max_tokens": 2, "stream": True}
    async with running_server() as server:
        _, answer = await server.post("/v1/completions", body)

    def by_choice(stream: list[Any]) -> list[Any]:
        return sorted(stream[:-1], key=lambda event: int(event["choices"][0]["index"]))

    wanted = events(captured("completions_stream_2prompts.sse")[1])
    assert shape(by_choice(events(answer))) == shape(by_choice(wanted))


async def test_the_role_chunk_ends_with_the_stray_space_of_the_real_server() -> None:
    async with running_server() as server:
        _, answer = await server.post("/v1/chat/completions", {**CHAT_BODY, "stream": True})

    assert answer.split(b"\n\n")[0].endswith(b"} ")
    assert captured("chat_stream.sse")[1].split(b"\n\n")[0].endswith(b"} ")


async def test_continuous_usage_counts_every_token() -> None:
    body = {**COMPLETION, "max_tokens": 9, "stream": True, "stream_options": {"include_usage": True}}
    async with running_server() as server:
        _, answer = await server.post("/v1/completions", body)

    counts = [event["usage"]["completion_tokens"] for event in events(answer)[:-1]]
    assert counts == [*range(1, 10), 9]


async def test_a_stream_interval_puts_several_tokens_into_a_chunk() -> None:
    body = {**COMPLETION, "max_tokens": 10, "stream": True, "stream_options": {"include_usage": True}}
    async with running_server(settings={"stream_interval": 4}) as server:
        _, answer = await server.post("/v1/completions", body)

    counts = [event["usage"]["completion_tokens"] for event in events(answer)[:-1]]
    assert counts == [1, 4, 8, 10, 10]


async def test_without_detokenisation_chunks_carry_token_ids() -> None:
    async with running_server() as server:
        _, answer = await server.post("/v1/completions", {**COMPLETION, "stream": True, "detokenize": False})

    choices = [event["choices"][0] for event in events(answer)[:-1]]
    assert [(choice["text"], len(choice["token_ids"])) for choice in choices] == [("", 1)] * 4


@pytest.mark.parametrize(
    ("capture", "path", "body"),
    [
        ("error_400.json", "/v1/completions", {"model": MODEL, "max_tokens": 2}),
        ("error_unknown_field.json", "/v1/completions", {**COMPLETION, "foo": 1}),
        ("error_type.json", "/v1/completions", {**COMPLETION, "max_tokens": "many"}),
        ("error_invalid_json.json", "/v1/completions", b'{"model":nope}'),
        ("error_logprobs.json", "/v1/completions", {"model": MODEL, "prompt": "x", "logprobs": 1}),
        ("error_n2.json", "/v1/completions", {**COMPLETION, "n": 2}),
        ("error_empty_prompt.json", "/v1/completions", {**COMPLETION, "prompt": []}),
        (
            "error_stream_options_without_stream.json",
            "/v1/completions",
            {"model": MODEL, "prompt": "x", "stream_options": {"include_usage": True}},
        ),
        (
            "error_max_tokens_and_max_completion_tokens.json",
            "/v1/chat/completions",
            {"model": MODEL, "messages": CHAT, "max_tokens": 2, "max_completion_tokens": 2},
        ),
        ("responses_not_harmony.json", "/v1/responses", {"model": MODEL, "input": "x"}),
        ("error_404.json", "/v1/nothing", {}),
        ("error_405.json", "/v1/models", {}),
    ],
)
async def test_refusals_are_the_captured_ones_word_for_word(
    capture: str, path: str, body: dict[str, Any] | bytes
) -> None:
    async with running_server() as server:
        answer = await server.post(path, body)

    assert answer == captured(capture)


async def test_a_prompt_above_the_token_budget_is_a_400_that_names_the_budget() -> None:
    async with running_server(settings={"max_num_tokens": 64}) as server:
        status, answer = await server.post("/v1/completions", {**COMPLETION, "prompt": list(range(65))})

    assert status == 400
    error = json.loads(answer)
    assert shape(error) == shape(captured_json("error_prompt_too_long.json"))
    assert "prompt length (65.0), query length (0) should not exceed max_num_tokens (64)" in error["message"]


async def test_small_get_endpoints_answer_like_the_captured_ones() -> None:
    async with running_server("1.2.1") as server:
        assert await server.get("/health") == (200, b"")
        assert await server.get("/health_generate") == captured("health_generate.txt")
        assert shape(await server.get_json("/v1/models")) == shape(captured_json("models.json"))
        assert await server.get_json("/version") == {"version": "1.2.1"}
        assert shape(await server.get_json("/steady_clock_offset")) == shape(captured_json("steady_clock_offset.json"))
        assert await server.post("/kv_cache_events", b"") == captured("kv_cache_events.json")


async def test_every_answer_says_that_it_is_simulated() -> None:
    async with running_server() as server, server.client.get("/health") as response:
        assert response.headers["Server"] == "trtune-simulated"


async def test_iteration_records_before_1_3_have_the_captured_keys() -> None:
    async with running_server("1.1.0", {"enable_iter_perf_stats": True}) as server:
        await server.complete(tokens=3)
        records = await server.get_json("/metrics")

    assert shape(records[0]) == shape(captured_json("metrics.json")[0])


async def test_perf_metrics_records_have_the_captured_shape_and_are_read_once() -> None:
    settings = {"return_perf_metrics": True, "perf_metrics_max_requests": 10}
    async with running_server("1.2.1", settings) as server:
        await server.complete()
        records = await server.get_json("/perf_metrics")

        assert shape(records) == shape(captured_json("perf_metrics.json")[:1])
        assert await server.get_json("/perf_metrics") == []


async def test_late_servers_answer_timing_in_headers_and_in_a_named_event_after_done() -> None:
    async with running_server("1.3.0rc25", {"return_perf_metrics": True}) as server:
        headers = {"X-TRTLLM-return-metrics": "1"}
        body = json.dumps(COMPLETION)
        async with server.client.post("/v1/completions", data=body, headers=headers) as response:
            timing = response.headers["Server-Timing"]
        body = json.dumps({**COMPLETION, "stream": True})
        async with server.client.post("/v1/completions", data=body, headers=headers) as response:
            stream = await response.read()

    assert [part.split(";dur=")[0].strip() for part in timing.split(",")] == [
        "server_queue",
        "server_ttft",
        "server_e2e",
    ]
    assert b"data: [DONE]\n\nevent: trtllm.perf_metrics\ndata: {" in stream


async def test_max_tokens_beyond_the_room_is_clamped() -> None:
    async with running_server() as server:
        answer = await server.complete(tokens=10_000, prompt_tokens=500)

    assert answer["usage"]["completion_tokens"] == 12


async def test_a_shared_prefix_shows_up_as_cached_tokens() -> None:
    async with running_server() as server:
        await server.complete(prompt_tokens=100)
        answer = await server.complete(prompt_tokens=100)

    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 96}


async def test_a_cache_salt_keeps_prompts_apart() -> None:
    chat = {"model": MODEL, "messages": CHAT, "prompt_token_ids": list(range(100)), "max_tokens": 2}
    async with running_server() as server:
        await server.post("/v1/chat/completions", {**chat, "cache_salt": "a"})
        _, answer = await server.post("/v1/chat/completions", {**chat, "cache_salt": "b"})

    assert json.loads(answer)["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}


async def test_a_client_that_leaves_takes_its_request_with_it() -> None:
    async with running_server(settings={"max_seq_len": 4096}) as server:
        body = json.dumps({**COMPLETION, "max_tokens": 4000, "stream": True})
        response = await server.client.post("/v1/completions", data=body)
        await response.content.readany()
        response.close()
        while server.engine.simulation.unfinished_requests:
            await server.get("/health")

        assert server.engine.simulation.kv.used_blocks == 0
