"""How many streamed chunks the simulated server emits for each second of CPU time.

The pretend GPUs are made absurdly fast, so that the process itself is the limit; CPU time is what is reported, because wall
time depends on what else the machine does.

Run: ``python -m benchmarks.simulated.emission [streams]``
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time

import psutil

OUTPUT_TOKENS = 1024
SPEED = 1000.0
_ADDRESS = re.compile(r"Uvicorn running on http://[^:]+:(\d+)")


def start_server() -> tuple[subprocess.Popen[str], int]:
    """Start a server on a free port and return it with its port once it is ready."""
    command = [
        sys.executable, "-m", "engines.simulated", "serve", "llama-3.1-8b", "--host", "127.0.0.1", "--port", "0",
        "--max_seq_len", "4096", "--sim-time-scale", "0.001", "--sim-speed", str(SPEED),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout or ():
        match = _ADDRESS.search(line)
        if match:
            return process, int(match.group(1))
    raise RuntimeError("the server ended before it was ready")


async def read_stream(port: int, continuous_usage: bool) -> int:
    """Run one streaming request and count its chunks."""
    body: dict[str, object] = {
        "model": "m",
        "prompt": list(range(64)),
        "max_tokens": OUTPUT_TOKENS,
        "ignore_eos": True,
        "stream": True,
    }
    if continuous_usage:
        body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    payload = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(payload)}\r\n\r\n"
    writer.write(head.encode() + payload)
    chunks = 0
    while data := await reader.read(1 << 16):
        chunks += data.count(b'"object":"text_completion"')
    writer.close()
    return chunks


async def measure(port: int, streams: int, continuous_usage: bool) -> tuple[int, float]:
    """Run all streams at once and return chunks and wall seconds."""
    start = time.perf_counter()
    counts = await asyncio.gather(*(read_stream(port, continuous_usage) for _ in range(streams)))
    return sum(counts), time.perf_counter() - start


def main() -> None:
    """Print chunks for each CPU second, without and with continuous usage."""
    streams = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    process, port = start_server()
    try:
        probe = psutil.Process(process.pid)
        for continuous_usage in (False, True):
            before = probe.cpu_times()
            chunks, wall_s = asyncio.run(measure(port, streams, continuous_usage))
            after = probe.cpu_times()
            cpu_s = after.user + after.system - before.user - before.system
            print(
                f"{streams} streams, continuous usage {continuous_usage}: {chunks} chunks, {chunks / cpu_s:.0f} "
                f"a CPU second, {chunks / wall_s:.0f} a wall second, {cpu_s / chunks * 1e6:.1f} µs each"
            )
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main()
