"""Levels from end to end: the real generator process against servers good and bad."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from sessions.clock import SessionClock
from sessions.requests import ClockKind, RequestStatus, RequestTable
from sessions.slo import Slo
from tests.load.servers import END, HEAD, Exchange, Script, serving
from tuner.load.errors import GeneratorLost, Unreachable
from tuner.load.generator import LoadGenerator
from tuner.load.lengths import Fixed
from tuner.load.live import LOAD_COLUMNS, LoadProgress
from tuner.load.result import LevelResult
from tuner.load.spec import Arrivals, Cancel, Endpoint, Level, Limits, StopRule, Turns, Workload

SMALL = Workload(isl=Fixed(tokens=8), osl=Fixed(tokens=5))
ONE = Level("concurrency", 1)
PATIENT = Limits(drain_timeout_s=5)
FEW = StopRule(max_requests=4, max_s=None)


@pytest.fixture
async def generator() -> AsyncIterator[LoadGenerator]:
    async with LoadGenerator() as generator:
        yield generator


class Outcome:
    """A level's result with its rows and progress."""

    def __init__(self) -> None:
        self.tables: list[RequestTable] = []
        self.progress: list[LoadProgress] = []
        self.result: LevelResult | None = None
        self.clock = SessionClock.start()

    @property
    def table(self) -> RequestTable:
        return RequestTable.concat(self.tables)

    @property
    def value(self) -> LevelResult:
        assert self.result is not None
        return self.result

    @property
    def errors(self) -> list[str]:
        return [self.table.errors[place] if place >= 0 else "" for place in self.table.error]


async def run_level(
    generator: LoadGenerator,
    url: str,
    level: Level = ONE,
    workload: Workload = SMALL,
    stop: StopRule = FEW,
    limits: Limits = PATIENT,
    endpoint: dict[str, Any] | None = None,
    **options: Any,
) -> Outcome:
    outcome = Outcome()
    outcome.result = await generator.run(
        Endpoint(url, "m", **(endpoint or {})),
        workload,
        level,
        stop,
        limits,
        clock=outcome.clock,
        on_requests=outcome.tables.append,
        on_progress=outcome.progress.append,
        **options,
    )
    return outcome


async def good(exchange: Exchange) -> None:
    await exchange.whole(0.002)


async def test_a_hundred_requests_means_a_hundred(generator: LoadGenerator) -> None:
    async with serving(good) as (url, seen):
        outcome = await run_level(generator, url, Level("concurrency", 8), stop=StopRule(max_requests=100, max_s=None))
    table, result = outcome.table, outcome.value
    assert len(seen.bodies) == len(table) == 100
    assert sorted(table.index.tolist()) == list(range(100))
    assert (table.status == RequestStatus.OK).all()
    assert result.metrics["requests"]["avg"] == 100
    assert result.stopped_by == "requests"
    assert (table.osl_tokens == 5).all()
    assert (table.isl_tokens == 7).all()
    assert (table.chunks > 0).all()


async def test_connections_are_opened_before_and_reused(generator: LoadGenerator) -> None:
    async with serving(good) as (url, seen):
        outcome = await run_level(generator, url, Level("concurrency", 4), stop=StopRule(max_requests=40, max_s=None))
    connections = outcome.value.connections
    assert connections.opened == 4
    assert connections.reused == 36
    assert connections.resent == 0
    # One more looked whether the server is there.
    assert seen.connections == 5


async def test_times_are_in_order_on_the_session_clock(generator: LoadGenerator) -> None:
    async with serving(good) as (url, _):
        outcome = await run_level(generator, url)
        after_ns = outcome.clock.now()
    table = outcome.table
    assert (table.scheduled_ns == table.sent_ns).all()
    assert (table.sent_ns > 0).all()
    assert (table.sent_ns < table.first_ns).all()
    assert (table.first_ns < table.last_ns).all()
    assert (table.last_ns <= table.end_ns).all()
    assert (table.end_ns < after_ns).all()
    assert (np.diff(table.chunk_us)[np.diff(np.repeat(table.index, table.chunks)) == 0] >= 0).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kernel receive times are Linux's")
async def test_tokens_carry_the_kernels_time_and_our_own_lag(generator: LoadGenerator) -> None:
    async with serving(good) as (url, _):
        outcome = await run_level(generator, url)
    assert outcome.value.clock == "kernel"
    assert (outcome.table.clock == ClockKind.KERNEL).all()
    assert (outcome.table.lag_first_us >= 0).all()
    assert outcome.value.client_lag_p99_ms >= 0


async def test_an_open_loop_sends_on_schedule_while_the_server_is_slow(generator: LoadGenerator) -> None:
    async def slow(exchange: Exchange) -> None:
        await exchange.whole(0.2)

    workload = SMALL.model_copy(update={"arrivals": Arrivals(pattern="constant")})
    async with serving(slow) as (url, _):
        outcome = await run_level(
            generator,
            url,
            Level("rate", 50),
            workload,
            StopRule(max_requests=50, max_s=None),
            Limits(drain_timeout_s=10),
        )
    table = outcome.table
    order = np.argsort(table.index)
    assert np.diff(table.scheduled_ns[order]) == pytest.approx(20_000_000, abs=2)
    assert outcome.value.metrics["schedule_lag"]["p50"] < 20
    assert outcome.value.metrics["ttft"]["min"] >= 200
    assert (table.sent_ns >= table.scheduled_ns).all()


async def test_progress_is_told_while_a_level_runs(generator: LoadGenerator) -> None:
    async with serving(good) as (url, _):
        outcome = await run_level(
            generator, url, Level("concurrency", 4), stop=StopRule(max_s=2.5, min_s=0, warmup_requests=3)
        )
    assert len(outcome.progress) >= 5
    phases = [progress.phase for progress in outcome.progress]
    assert set(phases) <= {"warm-up", "measure", "drain"}
    last = outcome.progress[-1]
    assert last.done_total == (outcome.table.status == RequestStatus.OK).sum()
    assert last.failed_total == 0
    assert last.output_tokens_total >= 5 * last.done_total
    assert last.concurrency == 4
    assert np.isnan(last.rate)
    live = outcome.progress[-2]
    assert live.output_tps > 0
    assert live.ttft_p50_ms > 0
    assert live.itl_p99_ms >= live.itl_p50_ms > 0
    assert all(isinstance(getattr(live, name), int | float) for name in LOAD_COLUMNS)


async def test_the_warm_up_is_recorded_and_not_counted(generator: LoadGenerator) -> None:
    async with serving(good) as (url, seen):
        outcome = await run_level(
            generator, url, Level("concurrency", 2), stop=StopRule(warmup_requests=10, max_requests=30, max_s=None)
        )
    assert len(seen.bodies) == len(outcome.table) == 40
    assert outcome.value.metrics["requests"]["avg"] == 30
    inside = outcome.table.end_ns > outcome.value.window_start_ns
    assert inside.sum() == 30


async def test_a_time_limit_closes_the_window_and_what_is_in_flight_is_recorded(generator: LoadGenerator) -> None:
    async with serving(good) as (url, seen):
        outcome = await run_level(generator, url, Level("concurrency", 4), stop=StopRule(max_s=0.6, min_s=0))
    result = outcome.value
    assert result.stopped_by == "time"
    assert result.window_end_ns - result.window_start_ns == 600_000_000
    assert len(outcome.table) == len(seen.bodies)
    assert (outcome.table.end_ns > result.window_end_ns).any()


async def test_precision_closes_the_window(generator: LoadGenerator) -> None:
    stop = StopRule(precision=0.2, min_s=1, min_requests=20, max_s=30)
    async with serving(good) as (url, _):
        outcome = await run_level(generator, url, Level("concurrency", 4), stop=stop)
    assert outcome.value.stopped_by == "precision"
    assert outcome.value.relative_half_width is not None
    assert outcome.value.relative_half_width <= 0.2


async def test_a_level_can_be_stopped(generator: LoadGenerator) -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.4, event.set)
    async with serving(good) as (url, _):
        outcome = await run_level(generator, url, stop=StopRule(max_s=600), stop_event=event)
    assert outcome.value.stopped_by == "stopped"


async def test_a_cancelled_level_leaves_the_generator_usable(generator: LoadGenerator) -> None:
    async with serving(good) as (url, _):
        task = asyncio.create_task(run_level(generator, url, stop=StopRule(max_s=600)))
        await asyncio.sleep(0.4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        outcome = await run_level(generator, url)
    assert len(outcome.table) == 4


async def test_goodput_counts_what_meets_the_slos(generator: LoadGenerator) -> None:
    async with serving(good) as (url, _):
        outcome = await run_level(generator, url, slos=[Slo.parse("ttft:60000"), Slo.parse("e2e:0.001")])
    assert outcome.value.metrics["goodput"]["avg"] == 0


async def test_conversations_wait_for_the_answer_and_think(generator: LoadGenerator) -> None:
    workload = SMALL.model_copy(update={"turns": Turns(count=Fixed(tokens=3), think_s=0.1, history="server")})
    async with serving(good) as (url, seen):
        outcome = await run_level(generator, url, workload=workload, stop=StopRule(max_requests=6, max_s=None))
    table = outcome.table
    assert len(table) == 6
    for session in np.unique(table.session):
        rows = np.flatnonzero(table.session == session)
        rows = rows[np.argsort(table.turn[rows])]
        assert table.turn[rows].tolist() == [0, 1, 2]
        assert (table.sent_ns[rows][1:] - table.end_ns[rows][:-1] >= 100_000_000).all()
    assert "\naaaaa\n" in seen.bodies[1]["prompt"]


async def test_a_failed_turn_ends_its_conversation_and_others_take_its_place(generator: LoadGenerator) -> None:
    async def failing_once(exchange: Exchange) -> bool:
        if exchange.number == 1:
            await exchange.send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
            return False
        await exchange.whole()
        return False

    workload = SMALL.model_copy(update={"turns": Turns(count=Fixed(tokens=3))})
    async with serving(failing_once) as (url, _):
        outcome = await run_level(generator, url, workload=workload, stop=StopRule(max_requests=7, max_s=None))
    assert len(outcome.table) == 7
    broken = outcome.table.session[outcome.table.status == RequestStatus.HTTP][0]
    assert outcome.table.turn[outcome.table.session == broken].max() == 1


async def test_a_share_of_clients_gives_up(generator: LoadGenerator) -> None:
    async def slow(exchange: Exchange) -> None:
        await exchange.whole(0.1)

    workload = SMALL.model_copy(update={"cancel": Cancel(share_ratio=1.0, after_min_s=0.2, after_max_s=0.2)})
    async with serving(slow) as (url, _):
        outcome = await run_level(generator, url, workload=workload, stop=StopRule(max_requests=2, max_s=None))
    table = outcome.table
    assert (table.status == RequestStatus.CANCELLED).all()
    assert (table.end_ns - table.sent_ns >= 200_000_000).all()
    assert (table.chunks >= 1).all()
    assert outcome.value.metrics["cancelled_ratio"]["avg"] == 1.0
    assert not outcome.value.valid


async def close_after_answer(exchange: Exchange) -> bool:
    """As llama.cpp does: announces keep-alive and closes."""
    await exchange.whole()
    return True


async def test_a_server_that_closes_kept_connections_costs_no_request(generator: LoadGenerator) -> None:
    async with serving(close_after_answer) as (url, seen):
        outcome = await run_level(generator, url, Level("concurrency", 4), stop=StopRule(max_requests=60, max_s=None))
    assert (outcome.table.status == RequestStatus.OK).all()
    assert len(seen.bodies) == 60
    assert outcome.value.connections.opened >= 60


async def drop_second(exchange: Exchange) -> bool:
    """Takes a second request on a connection and closes without a word."""
    if exchange.number_on_connection:
        return True
    await exchange.whole()
    return False


async def test_a_request_lost_on_a_used_connection_is_sent_again_once_and_counted(generator: LoadGenerator) -> None:
    async with serving(drop_second) as (url, _):
        outcome = await run_level(generator, url, stop=StopRule(max_requests=6, max_s=None))
    assert (outcome.table.status == RequestStatus.OK).all()
    assert outcome.value.connections.resent == 3
    assert any("sent again" in reason for reason in outcome.value.reasons)


async def test_connections_can_be_fresh_for_every_request(generator: LoadGenerator) -> None:
    async with serving(good) as (url, seen):
        outcome = await run_level(generator, url, endpoint={"reuse_connections": False})
    assert outcome.value.connections.reused == 0
    assert all(b"\r\nConnection: close\r\n" in head for head in seen.heads)


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


async def test_no_server_is_an_error_at_once(generator: LoadGenerator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(Unreachable, match="refused"):
        await run_level(generator, f"http://127.0.0.1:{port}")
    async with serving(good) as (url, _):
        assert len((await run_level(generator, url)).table) == 4


async def test_ipv6(generator: LoadGenerator) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        context = serving(good, host="::1")
        url, _ = await context.__aenter__()
    except OSError:
        pytest.skip("no IPv6 here")
    outcome = await run_level(generator, url)
    await context.__aexit__(None, None, None)
    assert (outcome.table.status == RequestStatus.OK).all()


async def test_a_lost_generator_process_is_reported_and_replaced(generator: LoadGenerator) -> None:
    children = [child for child in psutil.Process().children() if "tuner.load.hotpath" in " ".join(child.cmdline())]
    async with serving(good) as (url, _):
        task = asyncio.create_task(run_level(generator, url, stop=StopRule(max_s=60)))
        await asyncio.sleep(0.5)
        for child in children:
            child.kill()
        with pytest.raises(GeneratorLost):
            await task
        assert len((await run_level(generator, url)).table) == 4


OWNER = """
import asyncio, sys
from tuner.load.generator import LoadGenerator
async def main():
    async with LoadGenerator() as generator:
        print(generator.pids[0], flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def test_the_generator_process_ends_when_its_owner_is_killed() -> None:
    root = Path(__file__).parents[2]
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, cwd=root)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    process = psutil.Process(pid)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    gone, _ = psutil.wait_procs([process], timeout=20)
    assert gone or process.status() == psutil.STATUS_ZOMBIE


def test_the_generator_process_imports_next_to_nothing() -> None:
    code = "import sys; before = {*sys.modules}; import tuner.load.hotpath.loop; print(*({*sys.modules} - before))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=root)
    loaded = set(done.stdout.split())
    heavy = {"asyncio", "json", "numpy", "pydantic", "orjson", "dataclasses", "ssl", "ctypes", "inspect", "logging"}
    assert not loaded & heavy
    assert len(loaded) < 64


async def test_several_processes_share_a_level(generator: LoadGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.load.generator.STREAMS_PER_PROCESS", 2)
    async with serving(good) as (url, _), LoadGenerator() as several:
        outcome = await run_level(several, url, Level("concurrency", 4), stop=StopRule(max_requests=40, max_s=None))
    assert outcome.value.generator_processes == min(2, len(os.sched_getaffinity(0)))
    assert sorted(outcome.table.index.tolist()) == list(range(40))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A folder with a fresh certificate for 127.0.0.1 and its key."""
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    if shutil.which("openssl") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no openssl here")
    return tmp_path


async def test_tls_falls_back_to_user_time_and_says_so(generator: LoadGenerator, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    async with serving(good, context) as (url, _):
        trusted = await run_level(generator, url, endpoint={"ca_file": str(certificate / "cert.pem")})
        with pytest.raises(Unreachable, match="certificate"):
            await run_level(generator, url)
    assert (trusted.table.status == RequestStatus.OK).all()
    assert trusted.value.clock == "user"
    assert (trusted.table.lag_first_us == -1).all()


async def test_first_request_leaves_soon_after_the_start() -> None:
    async with serving(good) as (url, _):
        began = time.process_time()
        async with LoadGenerator() as fresh:
            outcome = await run_level(fresh, url, stop=StopRule(max_requests=1, max_s=None))
        assert time.process_time() - began < 1.0
    assert len(outcome.table) == 1
