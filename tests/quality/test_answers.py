"""A server is asked in the way that tells most; what it refuses is not asked again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tuner.quality.answers import END, TRITON_WAYS, Answer, Asker, NoAnswers, Way

Handler = Callable[[str, dict[str, Any]], tuple[int, object]]


@pytest.fixture
async def serve() -> Any:
    """Starts a server whose answers a function makes."""
    runners: list[web.AppRunner] = []

    async def start(answer: Handler) -> str:
        async def handle(request: web.Request) -> web.Response:
            status, body = answer(request.path, await request.json())
            if isinstance(body, bytes):
                return web.Response(body=body, status=status)
            return web.json_response(body, status=status)

        app = web.Application()
        app.router.add_post("/{path:.*}", handle)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


Serve = Callable[[Handler], Awaitable[str]]


async def first_answer(url: str) -> tuple[Answer, Way | None]:
    async with aiohttp.ClientSession() as http:
        asker = Asker(http, url, "m")
        return await asker.ask("hello", 4), asker.way


async def test_completions_with_logprobs_come_first(serve: Serve) -> None:
    url = await serve(
        lambda _, body: (
            200,
            {
                "choices": [
                    {
                        "text": " a b",
                        "finish_reason": "stop",
                        "logprobs": {"tokens": [" a", " b"], "token_logprobs": [-0.1, -0.2]},
                    }
                ]
            },
        )
    )

    answer, way = await first_answer(url)

    assert way == Way("completions", True)
    assert answer == Answer((" a", " b", END), (-0.1, -0.2, None))


async def test_log_probabilities_that_do_not_fit_the_tokens_are_left_alone(serve: Serve) -> None:
    told = {"text": " a b", "finish_reason": "stop", "logprobs": {"tokens": [" a", " b"], "token_logprobs": [-0.1]}}
    url = await serve(lambda path, _: (200 if path == "/v1/completions" else 404, {"choices": [told]}))

    answer, way = await first_answer(url)

    assert way == Way("completions", False)
    assert answer.pieces == (" a", " b", END)


async def test_a_server_that_refuses_them_is_asked_by_chat(serve: Serve) -> None:
    def answer(path: str, _: dict[str, Any]) -> tuple[int, object]:
        if path.endswith("/chat/completions"):
            content = [{"token": "Hi", "logprob": -0.5}]
            return 200, {
                "choices": [{"message": {"content": "Hi"}, "finish_reason": "length", "logprobs": {"content": content}}]
            }
        return 400, {"message": "logprobs is not supported"}

    told, way = await first_answer(await serve(answer))

    assert way == Way("chat", True)
    assert told == Answer(("Hi",), (-0.5,))


async def test_without_any_logprobs_words_are_compared(serve: Serve) -> None:
    def answer(path: str, body: dict[str, Any]) -> tuple[int, object]:
        if path.endswith("/chat/completions"):
            return 404, {}
        return 200, {"choices": [{"text": "one two  three", "finish_reason": "length", "logprobs": None}]}

    told, way = await first_answer(await serve(answer))

    assert way == Way("completions", False)
    assert told.pieces == ("one", " two", "  three")


@pytest.mark.parametrize(
    ("field", "top", "stream"),
    [("sampling_param_max_tokens", "sampling_param_top_k", "streaming"), ("max_tokens", "top_k", "stream")],
)
async def test_triton_is_asked_for_the_best_token_in_the_words_of_its_backend(
    serve: Serve, field: str, top: str, stream: str
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def answer(path: str, body: dict[str, Any]) -> tuple[int, object]:
        asked.append((path, body))
        return 200, {"model_name": "m", "text_output": f"{body['text_input']} one two"}

    url = await serve(answer)
    async with aiohttp.ClientSession() as http:
        asker = Asker(http, url, "m", ways=TRITON_WAYS, max_tokens_field=field)
        told = await asker.ask("hello", 4)

    assert asked == [("/v2/models/m/generate", {"text_input": "hello", field: 4, top: 1, stream: False})]
    assert told == Answer((" one", " two"), (None, None))


@pytest.mark.parametrize("body", [[], {"choices": []}, {"choices": [{"text": "", "finish_reason": "length"}]}, "no"])
async def test_a_server_without_usable_answers_is_named(serve: Serve, body: object) -> None:
    url = await serve(lambda *_: (200, body))

    with pytest.raises(NoAnswers, match="completions"):
        await first_answer(url)


async def test_a_dead_server_is_named() -> None:
    with pytest.raises(NoAnswers, match="/v1/completions"):
        await first_answer("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("body", "why"),
    [(b"[" * 200_000, "not JSON"), (b" " * 10_000_001, "more than 10000000 bytes"), (b"[1]", "no JSON object")],
    ids=["nested", "endless", "list"],
)
async def test_an_answer_that_is_a_trap_is_none(serve: Serve, body: bytes, why: str) -> None:
    url = await serve(lambda _path, _body: (200, body))

    with pytest.raises(NoAnswers, match=why):
        await first_answer(url)
