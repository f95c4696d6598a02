"""Levels against servers that answer badly, late or without end."""

from __future__ import annotations

import asyncio

import pytest

from sessions.requests import RequestStatus
from tests.load.levels import run_level
from tests.load.servers import END, HEAD, Exchange, Script, serving
from tuner.load.generator import LoadGenerator
from tuner.load.spec import Level, Limits, StopRule


def raw(*pieces: bytes, close: bool = False) -> Script:
    async def script(exchange: Exchange) -> bool:
        for piece in pieces:
            await exchange.send(piece)
            await asyncio.sleep(0.01)
        return close

    return script


def event(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


TOKEN = b'data: {"choices":[{"text":"a"}]}\n\n'
DONE = b"data: [DONE]\n\n"
REFUSAL = b'{"error":{"message":"prompt too \\u001b[31mlong"}}'
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


OK_END = event(DONE) + END
FINISHED = b'data: {"choices":[{"text":"a","finish_reason":"stop"}]}\n\n'
REPORTED = b'data: {"error":{"message":"out of pages"}}\n\n'
LARGE = b'data: {"choices":[{"text":"' + b"x" * 80 * 1024 + b'"}]}\n\n'
BROKEN = b'data: {"choices":[{"text":"\xff"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":%d}}\n\n'
IDS = tuple(b'data: {"id":"cmpl-%d","choices":[{"text":"a"}]}\n\n' % number for number in range(3))
METRICS = b"event: trtllm.perf_metrics\ndata: {}\n\n"
OLD_HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
REFUSED = b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n%b" % (len(REFUSAL), REFUSAL)
REFUSED_IN_CHUNKS = b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n" + event(REFUSAL) + END
ELSEWHERE = b"HTTP/1.1 307 Go\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"

BAD_ANSWERS: dict[str, tuple[Script, RequestStatus, int, str]] = {
    "close mid-token": (raw(HEAD, event(TOKEN), event(TOKEN)[:20], close=True), RequestStatus.CUT, 1, "in the middle"),
    "half an event": (raw(HEAD, event(TOKEN), event(TOKEN[:15]) + END), RequestStatus.INVALID, 1, "no JSON"),
    "several events in one segment": (raw(HEAD, event(TOKEN * 3 + DONE) + END), RequestStatus.OK, 3, ""),
    "CRLF": (raw(HEAD, event((TOKEN + DONE).replace(b"\n", b"\r\n")) + END), RequestStatus.OK, 1, ""),
    "comments, no data": (raw(HEAD, event(b": hi\n\n" + TOKEN + b"event: x\n\n") + OK_END), RequestStatus.OK, 1, ""),
    "an error inside a 200": (
        raw(HEAD, event(TOKEN), event(REPORTED) + OK_END),
        RequestStatus.INVALID,
        1,
        "out of pages",
    ),
    "a 200 with null": (raw(JSON_HEAD % 4 + b"null"), RequestStatus.INVALID, 0, "no event stream: null"),
    "no token": (raw(HEAD, OK_END), RequestStatus.INVALID, 0, "without a token"),
    "no end mark": (raw(HEAD, event(TOKEN) + END), RequestStatus.CUT, 1, "without [DONE]"),
    "no [DONE] but a finish reason": (raw(HEAD, event(FINISHED) + END), RequestStatus.OK, 1, ""),
    "a named event after [DONE]": (raw(HEAD, event(TOKEN + DONE), event(METRICS) + END), RequestStatus.OK, 1, ""),
    "missing usage": (raw(HEAD, event(TOKEN), event(TOKEN) + OK_END), RequestStatus.OK, 2, ""),
    "different ids per chunk": (raw(HEAD, *map(event, IDS), event(USAGE % 3) + OK_END), RequestStatus.OK, 3, ""),
    "80 KiB in one event": (raw(HEAD, event(LARGE) + OK_END), RequestStatus.OK, 1, ""),
    "invalid UTF-8": (raw(HEAD, event(BROKEN) + OK_END), RequestStatus.OK, 1, ""),
    "a huge header": (raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000), RequestStatus.INVALID, 0, "head of the answer"),
    "broken framing": (raw(HEAD, event(TOKEN), b"nonsense\r\n"), RequestStatus.INVALID, 1, "chunk header"),
    "HTTP/1.0": (raw(OLD_HEAD, TOKEN + DONE, close=True), RequestStatus.OK, 1, ""),
    "no HTTP": (raw(b"nonsense\r\n\r\n"), RequestStatus.INVALID, 0, "not HTTP"),
    "closed unanswered": (raw(close=True), RequestStatus.CONNECT, 0, "unanswered"),
    "closed in the head": (raw(HEAD[:30], close=True), RequestStatus.CUT, 0, "in the middle"),
    "an HTTP error": (raw(REFUSED), RequestStatus.HTTP, 0, "HTTP 400: prompt too [31mlong"),
    "a chunked HTTP error": (raw(REFUSED_IN_CHUNKS), RequestStatus.HTTP, 0, "HTTP 400: prompt too [31mlong"),
    "a redirect": (raw(ELSEWHERE), RequestStatus.HTTP, 0, "redirects"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_bad_answers(generator: LoadGenerator, name: str) -> None:
    script, status, tokens, says = BAD_ANSWERS[name]
    async with serving(script) as (url, _):
        outcome = await run_level(generator, url, stop=StopRule(max_requests=1, max_s=None))
    table = outcome.table
    assert RequestStatus(table.status[0]) == status
    assert table.osl_tokens[0] == tokens
    assert says in outcome.errors[0]
    assert outcome.errors[0].isprintable()
    assert outcome.value.valid == (status == RequestStatus.OK)


@pytest.mark.parametrize(
    ("usage", "tokens", "counts", "finding"),
    [
        (b"", 2, "estimated", "2 answers told no usage: each event with text is counted as one token"),
        (event(USAGE % 2), 2, "exact", ""),
        (event(USAGE % 7), 7, "estimated", ""),
    ],
)
async def test_token_counts_are_called_exact_only_where_usage_confirms_them(
    generator: LoadGenerator, usage: bytes, tokens: int, counts: str, finding: str
) -> None:
    async with serving(raw(HEAD, event(TOKEN), event(TOKEN), usage + OK_END)) as (url, _):
        outcome = await run_level(generator, url, stop=StopRule(max_requests=2, max_s=None))

    assert outcome.table.osl_tokens.tolist() == [tokens, tokens]
    assert outcome.value.token_counts == counts
    assert [reason for reason in outcome.value.reasons if "usage" in reason] == [finding] * bool(finding)


async def test_a_body_that_never_ends_is_cut_at_its_limit(generator: LoadGenerator) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.send(HEAD)
        while True:
            await exchange.send(event(TOKEN * 100))

    async with serving(endless) as (url, _):
        outcome = await run_level(
            generator, url, stop=StopRule(max_requests=1, max_s=None), limits=Limits(max_body_bytes=1_000_000)
        )
    assert outcome.table.status[0] == RequestStatus.INVALID
    assert "exceeds 1000000 bytes" in outcome.errors[0]
    assert outcome.table.osl_tokens[0] > 10_000


@pytest.mark.parametrize(
    ("limits", "pieces", "says"),
    [
        (Limits(first_token_timeout_s=0.2), (), "no token within 0.2 s"),
        (Limits(idle_timeout_s=0.2), (HEAD, event(TOKEN)), "silent within 0.2 s"),
        (Limits(total_timeout_s=0.3), (HEAD, *[event(TOKEN)] * 200), "not done within 0.3 s"),
    ],
)
async def test_each_phase_has_its_limit(
    generator: LoadGenerator, limits: Limits, pieces: tuple[bytes, ...], says: str
) -> None:
    async def stalling(exchange: Exchange) -> bool:
        await raw(*pieces)(exchange)
        await asyncio.sleep(30)
        return True

    async with serving(stalling) as (url, _):
        outcome = await run_level(generator, url, stop=StopRule(max_requests=1, max_s=None), limits=limits)
    assert outcome.table.status[0] == RequestStatus.TIMEOUT
    assert outcome.errors[0] == says
    assert outcome.value.metrics["error_ratio"]["avg"] == 1.0


async def test_a_request_left_unanswered_when_the_level_ends_has_failed(generator: LoadGenerator) -> None:
    async def one_hangs(exchange: Exchange) -> None:
        if exchange.number == 0:
            await asyncio.sleep(60)
        await exchange.whole(0.002)

    async with serving(one_hangs) as (url, _):
        outcome = await run_level(
            generator, url, Level("concurrency", 2), stop=StopRule(max_s=2.5, min_s=0), limits=Limits(drain_timeout_s=0)
        )
    assert outcome.table.status[outcome.table.index == 0].tolist() == [RequestStatus.TIMEOUT]
    assert outcome.value.metrics["error_ratio"]["avg"] > 0


async def test_a_server_that_only_fails_ends_the_level(generator: LoadGenerator) -> None:
    async def refuse(exchange: Exchange) -> bool:
        await exchange.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        return True

    async with serving(refuse) as (url, _):
        outcome = await run_level(generator, url, Level("concurrency", 2), stop=StopRule(max_s=60))
    assert outcome.value.stopped_by == "failures"
    assert not outcome.value.valid
    assert set(outcome.value.error_texts) <= {"HTTP 503", "the level was over"}
    assert outcome.value.metrics["error_ratio"]["avg"] == 1.0
