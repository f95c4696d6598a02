"""Proof on a real GPU: agreement with an independent client, cost of watching, a search, and failures made for real.

On a host with a GPU and vLLM, with a folder that holds a model's `config.json` and tokenizer (weights are made up):

    python -m benchmarks.gpu.run PART --model DIR --out DIR

Parts: doctor, agreement, overhead, tune, two-gpus, failures. Each fits into eight minutes and can be run alone; `tune` and
`two-gpus` go on where they were when they are run again. Prints one JSON object a line and, after each part, what is left on
the GPU.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from benchmarks.gpu import independent_client
from engines.errors import StartFailed
from engines.gpu import NoGpu, open_gpu_source
from engines.launch.ports import free_port
from engines.launch.process import ProcessLauncher, ProcessServer
from engines.launch.spec import LaunchRequest
from engines.registry import get_engine
from sessions.clock import SessionClock
from sessions.holding import is_written
from sessions.reader import SessionReader
from tuner.load.generator import LoadGenerator
from tuner.load.spec import Endpoint, Level, Limits, StopRule, Workload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from engines.knob import Value

VLLM = (sys.executable, "-m", "vllm.entrypoints.openai.api_server")
ARGUMENTS = ("--load-format", "dummy", "--served-model-name", "m", "--no-enable-prefix-caching")
ISL, OSL = 1024, 128
AGREEMENT_ROUNDS = 4
AGREEMENT_METRICS = (
    ("output_tps", "output_tps"),
    ("ttft_p50_ms", "ttft_p50_ms"),
    ("ttft_p50_ms", "ttft_from_written_p50_ms"),
    ("tpot_p50_ms", "tpot_p50_ms"),
)
"""Metrics of trtune, and of the independent client: its TTFT from before the request is made, and from when it was written."""
PLAN = Path(__file__).with_name("vllm-8b.toml")
TWO_GPUS_PLAN = Path(__file__).with_name("vllm-8b-two-gpus.toml")
START_TIMEOUT_S = 300


def say(part: str, **facts: object) -> None:
    """Print one finding."""
    print(json.dumps({"part": part, **facts}, default=str), flush=True)


@contextlib.asynccontextmanager
async def server(model: str, out: Path, params: Mapping[str, Value]) -> AsyncIterator[ProcessServer]:
    """A vLLM server that is ready, started and stopped by trtune's own launcher."""
    request = LaunchRequest(model, params, "127.0.0.1", free_port(), out, command=VLLM, arguments=ARGUMENTS)
    with (out / "server.log").open("a") as log:
        running = await ProcessLauncher().start(
            get_engine("vllm").launch(request), lambda line: print(line, file=log, flush=True)
        )
        try:
            async with aiohttp.ClientSession() as http:
                ready_s = await running.wait_ready(http, START_TIMEOUT_S)
            say("server", params=dict(params), ready_s=round(ready_s, 1))
            yield running
        finally:
            await running.stop()


async def measure(load: LoadGenerator, url: str, concurrency: int, requests: int, seed: int) -> dict[str, float]:
    """The same closed loop as the independent client's, by trtune."""
    result = await load.run(
        Endpoint(url, "m", token_prompts=True, vocabulary_size=31_000, continuous_usage=True),
        Workload(isl=ISL, osl=OSL, seed=seed),
        Level("concurrency", concurrency),
        StopRule(max_requests=requests, min_requests=requests, min_s=0, max_s=600),
        Limits(),
        clock=SessionClock.start(),
        on_requests=lambda _: None,
        on_progress=lambda _: None,
    )
    told = result.metrics
    return {
        "output_tps": told["output_token_throughput"]["avg"],
        "ttft_p50_ms": told["ttft"]["p50"],
        "tpot_p50_ms": told["tpot"]["p50"],
        "requests": told["requests"]["avg"],
        "client_lag_p99_ms": result.client_lag_p99_ms,
    }


async def agreement(model: str, out: Path) -> None:
    """Our numbers against an independent client's: same server, same lengths, in turn."""
    async with server(model, out, {}) as running, LoadGenerator() as load:
        await independent_client.run(running.url, 8, 16, ISL, OSL, seed=99)
        for concurrency, requests in ((1, 24), (32, 256)):
            ours, theirs = [], []
            for round_ in range(AGREEMENT_ROUNDS):
                theirs.append(await independent_client.run(running.url, concurrency, requests, ISL, OSL, seed=round_))
                ours.append(await measure(load, running.url, concurrency, requests, seed=100 + round_))
            for name, other_name in AGREEMENT_METRICS:
                mine = statistics.median(each[name] for each in ours)
                other = statistics.median(each[other_name] for each in theirs)
                say("agreement", concurrency=concurrency, metric=name, independent_metric=other_name, trtune=round(mine, 3),
                    independent=round(other, 3), difference=f"{mine / other - 1:+.2%}")  # fmt: skip
            say("agreement", concurrency=concurrency, ours=ours, theirs=theirs)


async def overhead(model: str, out: Path) -> None:
    """Throughput with and without `trtune watch` attached, in turn."""
    ratios = []
    async with server(model, out, {}) as running:
        await independent_client.run(running.url, 32, 64, ISL, OSL, seed=99)
        for round_ in range(4):
            both: dict[bool, float] = {}
            for watched in (True, False) if round_ % 2 else (False, True):
                session = out / f"watch-{round_}.trtune"
                words = ["-m", "trtune", "watch", running.url, "--engine", "vllm", "--headless", "--session", session]
                watcher = None
                if watched:
                    watcher = subprocess.Popen([sys.executable, *map(str, words)], stdout=subprocess.DEVNULL)
                    await asyncio.sleep(5)
                both[watched] = (await independent_client.run(running.url, 32, 256, ISL, OSL, seed=7))["output_tps"]
                if watcher is not None:
                    watcher.send_signal(signal.SIGINT)
                    watcher.wait(60)
                    _say_gpu_samples(session)
            ratios.append(both[True] / both[False])
            say("overhead", round=round_, watched_tps=both[True], alone_tps=both[False], ratio=ratios[-1])
    half = statistics.stdev(ratios) / len(ratios) ** 0.5
    say("overhead", mean_ratio=statistics.fmean(ratios), standard_error=half)


def _say_gpu_samples(session: Path) -> None:
    """What the GPU said while it was watched: the highest of each column."""
    with SessionReader(session) as reader:
        for source in reader.sources("gpu"):
            samples = reader.samples(source.id, 0, 1 << 62)
            highest = {
                name: max(
                    (sample.values[place] for sample in samples if sample.values[place] == sample.values[place]),
                    default=None,
                )
                for place, name in enumerate(source.columns)
            }
            say(
                "watch",
                gpu=source.info.get("name"),
                samples=len(samples),
                highest=highest,
                notes=source.info.get("notes"),
            )


def tune(plan: Path, model: str, out: Path, limit_s: float) -> None:
    """A search under SLOs, in pieces: the worker goes on when the viewer is ended, and is looked at again the next time."""
    session = out / f"{plan.stem}.trtune"
    if not session.exists():
        words = ["tune", str(plan), "--model", model, "--session", str(session)]
        words += ["--set", f"engine.command={json.dumps(list(VLLM))}"]
    else:
        words = ["attach", str(session)] if is_written(session) else ["tune", "--resume", str(session)]
    viewer = subprocess.Popen([sys.executable, "-m", "trtune", *words, "--headless"])
    try:
        viewer.wait(limit_s)
    except subprocess.TimeoutExpired:
        viewer.send_signal(signal.SIGHUP)  # as when the terminal is closed
        viewer.wait(60)
    say("tune", exit=viewer.returncode, goes_on=is_written(session), session_bytes=session.stat().st_size)
    if not is_written(session):
        _say_result(session)
        subprocess.run([sys.executable, "-m", "trtune", "sessions", "pack", str(session), "--anonymise"], check=True)


def _say_result(session: Path) -> None:
    """What the search found, trial by trial, and its verdict."""
    with SessionReader(session) as reader:
        for trial in reader.trials():
            say("tune", trial=trial.number, kind=trial.kind, state=trial.state, params=trial.params, ready_s=trial.ready_s,
                score=trial.score, feasible=trial.feasible, failure=trial.failure and trial.failure.text,
                levels={level.value: level.result.get("output_token_throughput", {}).get("avg")
                        for level in reader.levels(trial.number)})  # fmt: skip
        for event in reader.events():
            if event.kind in ("neighbours", "drift"):
                say("tune", event=event.kind, text=event.text, **event.data)
        say("tune", verdict=reader.meta().get("verdict"), worker=reader.worker())


FAILURES: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    ("memory share too small", {"gpu-memory-utilization": 0.13}, ()),
    ("context too long", {"max-model-len": 9_000_000}, ()),
    ("unknown flag", {}, ("--no-such-flag",)),
    ("more GPUs than there are", {"tensor-parallel-size": 8}, ()),
)


async def failures(model: str, out: Path) -> None:
    """Starts that fail for real, and servers that die or hang under load: what trtune says of them."""
    engine = get_engine("vllm")
    for name, params, more in FAILURES:
        request = LaunchRequest(
            model, params, "127.0.0.1", free_port(), out, command=VLLM, arguments=(*ARGUMENTS, *more)
        )
        begun = time.monotonic()
        try:
            running = await ProcessLauncher().start(engine.launch(request), lambda _: None)
            async with aiohttp.ClientSession() as http:
                await running.wait_ready(http, START_TIMEOUT_S)
            await running.stop()
            say("failures", case=name, kind="started after all")
        except StartFailed as error:
            told = error.failure
            say("failures", case=name, kind=told.kind, text=told.text, line=told.line[:200], accuses=told.accuses,
                seconds=round(time.monotonic() - begun, 1))  # fmt: skip
        say_leftovers("failures")
    for name, number in (("killed under load", signal.SIGKILL), ("hangs under load", signal.SIGSTOP)):
        _fail_under_load(model, out, name, number)
        say_leftovers("failures")


def _fail_under_load(model: str, out: Path, name: str, number: signal.Signals) -> None:
    """One trial whose server is hit by a signal while it is measured."""
    session = out / f"{name.replace(' ', '-')}.trtune"
    settings = {
        "engine.command": json.dumps(list(VLLM)),
        "engine.hang_timeout_s": "10",
        "load.find": "false",
        "load.levels": "[16]",
        "load.stop.min_s": "60",
        "load.stop.max_s": "60",
        "search.trials": "1",
        "search.proof_rounds": "0",
    }
    flags = [word for field, value in settings.items() for word in ("--set", f"{field}={value}")]
    words = ["-m", "trtune", "tune", str(PLAN), "--model", model, "--session", str(session), "--headless", *flags]
    begun = time.monotonic()
    follower = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    hit_s = 0.0
    while follower.poll() is None and time.monotonic() - begun < 400:
        time.sleep(0.5)
        if hit_s or not session.exists():
            continue
        with SessionReader(session) as reader:
            measuring = any(phase.name == "measure" for phase in reader.phases())
            status = reader.worker()
        if measuring and status is not None:
            import psutil

            tree = psutil.Process(status.pid).children(recursive=True)
            for process in tree:
                if "vllm" in " ".join(process.cmdline()) or "EngineCore" in process.name():
                    os.kill(process.pid, number)
            hit_s = time.monotonic()
    with SessionReader(session) as reader:
        (trial,) = reader.trials()
    told = trial.failure
    say("failures", case=name, state=trial.state, kind=told.kind if told else None, text=told.text if told else None,
        seconds_after=round(time.monotonic() - hit_s, 1), exit=follower.returncode)  # fmt: skip


def doctor() -> None:
    """What trtune says of this host."""
    told = subprocess.run(
        [sys.executable, "-m", "trtune", "doctor", "--json"], capture_output=True, text=True, check=False
    )
    for line in told.stdout.splitlines():
        say("doctor", **json.loads(line))


def say_leftovers(part: str) -> None:
    """What is still on the GPU: memory in use, and processes of vLLM."""
    source = open_gpu_source(None, True)
    if not isinstance(source, NoGpu):
        used = [round(sample.mem_used_bytes / 2**20) for sample in source.sample()]
        source.close()
        processes = subprocess.run(
            ["pgrep", "-fc", "vllm.entrypoints|EngineCore"], capture_output=True, text=True, check=False
        )
        say(part, left_mem_mib=used, left_processes=int(processes.stdout or 0))


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description="Proof on a real GPU.")
    parser.add_argument("part", choices=["doctor", "agreement", "overhead", "tune", "two-gpus", "failures"])
    parser.add_argument("--model", default="")
    parser.add_argument("--out", type=Path, default=Path("gpu-out"))
    parser.add_argument("--limit", type=float, default=420, metavar="SECONDS", help="for tune: stop after this long")
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    match told.part:
        case "doctor":
            doctor()
        case "agreement":
            asyncio.run(agreement(told.model, told.out))
        case "overhead":
            asyncio.run(overhead(told.model, told.out))
        case "tune":
            tune(PLAN, told.model, told.out, told.limit)
        case "two-gpus":
            tune(TWO_GPUS_PLAN, told.model, told.out, told.limit)
        case _:
            asyncio.run(failures(told.model, told.out))
    say_leftovers(told.part)


if __name__ == "__main__":
    main()
