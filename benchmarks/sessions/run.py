"""Cost of recording and of reading: `python -m benchmarks.sessions.run [recording] [frame] [long] [pack]`."""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.screen.growing import GrowingSession
from benchmarks.sessions.made import made_requests
from sessions.clock import NS_PER_S
from sessions.reader import SessionReader
from sessions.recorder import Recorder

TICK_S = 0.2
TOKENS_S = 50_000
OSL_TOKENS = 100
GPUS = 8
SEEKS = 40
WINDOW_NS = 300 * NS_PER_S


def measure_recording(seconds: float) -> None:
    """50,000 tokens/s and 8 GPUs at 5 Hz, in real time, as the worker flushes them; CPU of the recorder's calls alone."""
    rng = np.random.default_rng(1)
    per_tick = round(TOKENS_S * TICK_S / OSL_TOKENS)
    ticks = round(seconds / TICK_S)
    with TemporaryDirectory() as folder:
        session = GrowingSession(Path(folder) / "run.trtune", GPUS)
        recorder = session.recorder
        level = recorder.start_level(recorder.start_trial("bench", {}), "concurrency", 512)
        tables = [
            made_requests(rng, per_tick, OSL_TOKENS, round(tick * TICK_S * NS_PER_S), round(TICK_S * NS_PER_S))
            for tick in range(ticks)
        ]
        cpu_s = slowest_s = 0.0
        began_s = time.monotonic()
        for tick, table in enumerate(tables):
            before_s = time.thread_time()
            session.sample(round(tick * TICK_S * NS_PER_S))
            made_s = time.thread_time()
            recorder.add_requests(level, table)
            recorder.beat("running")
            spent_s = time.thread_time() - before_s
            cpu_s += spent_s
            slowest_s = max(slowest_s, time.thread_time() - made_s)
            time.sleep(max(0.0, began_s + (tick + 1) * TICK_S - time.monotonic()))
        took_s = time.monotonic() - began_s
        session.close()
        size_bytes = session.path.stat().st_size
    tokens = ticks * per_tick * OSL_TOKENS
    print(
        f"recording {tokens / took_s:,.0f} tokens/s, {GPUS} GPUs at {1 / TICK_S:g} Hz, {took_s:.0f} s: "
        f"{100 * cpu_s / took_s:.1f} % of a core, longest call {1000 * slowest_s:.0f} ms CPU, {size_bytes / tokens:.2f} bytes/token"
    )


def write_requests(path: Path, requests: int, tokens: int, trials: int) -> Path:
    """A session with so many requests in blocks of 500, as a busy worker writes them."""
    rng = np.random.default_rng(2)
    recorder = Recorder.resume(path) if path.exists() else Recorder.create(path, {})
    for number in range(trials):
        trial = recorder.start_trial("search", {"max_batch_size": number})
        level = recorder.start_level(trial, "concurrency", 64)
        for place in range(0, requests // trials, 500):
            count = min(500, requests // trials - place)
            recorder.add_requests(level, made_requests(rng, count, tokens, place * 2_000_000, 500 * 2_000_000, place))
            recorder._write([], requests=True)
        recorder.end_level(level, "valid", result={"ttft": {"p50": 100.0}})
        recorder.end_trial(trial, "complete", score=float(number), feasible=True)
    recorder.set_worker("done", "over")
    recorder.close()
    return path


def measure_frame(requests: int) -> None:
    """A DataFrame of every request of a session."""
    import trtune

    with TemporaryDirectory() as folder:
        path = write_requests(Path(folder) / "run.trtune", requests, 8, 20)
        trtune.open_session(path).close()
        with trtune.open_session(path) as session:
            session.levels()
            gc.collect()
            cpu_s, began_s = time.process_time(), time.monotonic()
            frame = session.requests()
            cpu_s, took_s = time.process_time() - cpu_s, time.monotonic() - began_s
    print(f"frame     {len(frame):,} requests, {len(frame.columns)} columns: {cpu_s:.2f} s CPU, {took_s:.2f} s")


def measure_long(hours: float, requests: int) -> None:
    """Opening, seeking and looking at the whole of a long session, in a process of its own."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "long.trtune"
        session = GrowingSession(path, GPUS)
        session.fill(hours * 3600)
        session.close()
        write_requests(path, requests, 16, 300)
        print(
            f"long      {hours:g} h of {GPUS} GPUs at 5 Hz, {requests:,} requests: {path.stat().st_size / 1e6:.0f} MB",
            flush=True,
        )
        subprocess.run([sys.executable, "-m", "benchmarks.sessions.run", "--look", str(path)], check=True)
        measure_pack(path)


def measure_pack(path: Path) -> None:
    from sessions.packing import Readable, pack

    began_s = time.monotonic()
    packed = pack(path, path.with_name("pack.xz"))
    packed_s = time.monotonic()
    Readable(packed.path).close()
    print(
        f"pack      {packed.session_bytes / 1e6:.0f} MB to {packed.pack_bytes / 1e6:.0f} MB in {packed_s - began_s:.0f} s,"
        f" unpacked in {time.monotonic() - packed_s:.1f} s"
    )


def look(path: Path) -> None:
    """What a screen asks of a session: everything of one moment, then of others, then the whole."""
    chance = random.Random(3)
    began_s, cpu_s = time.monotonic(), time.process_time()
    with SessionReader(path) as reader:
        reader.meta(), reader.worker()
        end_ns = reader.end_ns()
        reader.trials(), reader.phases(), reader.levels(), reader.events(), reader.commands()
        _window(reader, end_ns)
        opened_s, opened_cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
        seeks_s = []
        for _ in range(SEEKS):
            cpu_s = time.process_time()
            at_ns = chance.randrange(end_ns)
            reader.trials(at_ns), reader.levels(None, at_ns), reader.logs(at_ns)
            _window(reader, at_ns)
            seeks_s.append(time.process_time() - cpu_s)
        cpu_s = time.process_time()
        spans = sum(len(reader.spans(source.id, 0, end_ns, width_s=256)) for source in reader.sources())
        whole_s = time.process_time() - cpu_s
    print(
        f"open      {opened_s:.3f} s ({opened_cpu_s:.3f} s CPU); "
        f"seek {1000 * statistics.median(seeks_s):.0f} ms CPU (at most {1000 * max(seeks_s):.0f}); "
        f"whole session, {spans} spans, {1000 * whole_s:.0f} ms CPU; {_peak_bytes() / 1e6:.0f} MB of memory at most"
    )


def _window(reader: SessionReader, at_ns: int) -> None:
    for source in reader.sources():
        reader.samples(source.id, at_ns - WINDOW_NS, at_ns + 1)


def _peak_bytes() -> int:
    """Peak memory of this program alone: `getrusage` would count that of whoever started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="recording, frame, long (default: all)")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument(
        "--requests", type=int, default=1_000_000, help="of the frame; the long session has twice as many"
    )
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--look", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.look:
        look(options.look)
        return
    parts = options.parts or ["recording", "frame", "long"]
    if "recording" in parts:
        measure_recording(options.seconds)
    if "frame" in parts:
        measure_frame(options.requests)
    if "long" in parts:
        measure_long(options.hours, 2 * options.requests)


if __name__ == "__main__":
    main()
