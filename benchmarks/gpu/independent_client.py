"""A small independent load client: nothing of trtune in it, so that its numbers can be held against trtune's.

A closed loop of streaming completions with random token prompts over aiohttp; times are taken when a line is read. TTFT is
told twice: from before the request is made, as most clients do, and from when its last byte was handed to the socket.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from types import SimpleNamespace


async def one(session: aiohttp.ClientSession, url: str, isl: int, osl: int, rng: random.Random) -> tuple[float, ...]:
    """Send one request; returns TTFT and TPOT in ms, its tokens, and TTFT from when it was written, in ms."""
    written: list[float] = []
    body = {
        "model": "m",
        "prompt": [rng.randrange(10, 31000) for _ in range(isl)],
        "max_tokens": osl,
        "ignore_eos": True,
        "stream": True,
        "temperature": 0.0,
        "stream_options": {"include_usage": True},
    }
    sent = time.perf_counter()
    first = last = sent
    tokens = 0
    async with session.post(f"{url}/v1/completions", json=body, trace_request_ctx=written) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            event = json.loads(line[6:])
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
            if event["choices"]:
                last = time.perf_counter()
                first = last if first == sent else first
    return (first - sent) * 1e3, (last - first) * 1e3 / max(tokens - 1, 1), tokens, (first - max(written)) * 1e3


async def _note_time(_: aiohttp.ClientSession, told: SimpleNamespace, __: aiohttp.TraceRequestChunkSentParams) -> None:
    """Note when a part of a request's body was written."""
    told.trace_request_ctx.append(time.perf_counter())


async def run(url: str, concurrency: int, requests: int, isl: int, osl: int, seed: int) -> dict[str, float]:
    """Run the closed loop; returns throughput and medians."""
    rng = random.Random(seed)
    todo = iter(range(requests))
    done: list[tuple[float, ...]] = []
    timeout = aiohttp.ClientTimeout(total=300)
    trace = aiohttp.TraceConfig()
    trace.on_request_chunk_sent.append(_note_time)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trace_configs=[trace]) as session:

        async def user() -> None:
            for _ in todo:
                done.append(await one(session, url, isl, osl, rng))

        start = time.perf_counter()
        await asyncio.gather(*(user() for _ in range(concurrency)))
        wall_s = time.perf_counter() - start

    def median(place: int) -> float:
        return sorted(each[place] for each in done)[len(done) // 2]

    return {
        "output_tps": sum(each[2] for each in done) / wall_s,
        "ttft_p50_ms": median(0),
        "ttft_from_written_p50_ms": median(3),
        "tpot_p50_ms": median(1),
        "requests": len(done),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A small independent load client.")
    parser.add_argument("url")
    for name in ("concurrency", "requests", "isl", "osl"):
        parser.add_argument(name, type=int)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    print(json.dumps(asyncio.run(run(told.url, told.concurrency, told.requests, told.isl, told.osl, told.seed))))
