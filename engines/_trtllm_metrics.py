"""Reads one TensorRT-LLM server's metrics in whichever of three ways they are delivered (contract trtllm 2.3)."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import fields, replace
from enum import Enum
from typing import TYPE_CHECKING

from engines._http import get, get_json_or_none
from engines._page_metrics import Split
from engines._prometheus import Page, parse_page
from engines._trtllm_iter_log import record_of_line
from engines._trtllm_records import RecordStream, first_positive
from engines._trtllm_request_times import page_split, split_of_records
from engines.errors import EngineError
from engines.sample import NAN, EngineSample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import aiohttp

    from engines._http import Answer
    from engines._trtllm_records import IterationRecord

METRICS_TIMEOUT_S = 10.0
SLOW_ANSWER_S = 1.5
"""A GET that waits for records takes about 2 s, one that reads a buffer 14 ms."""

SAMPLE_PERIOD_S = 0.1
COUNTER_PERIOD_S = 1.0
MOST_LOG_RECORDS = 10_000
"""Records of the log kept between two polls: a minute of the fastest servers."""


E2E_COUNT = ("trtllm_e2e_request_latency_seconds_count", "e2e_request_latency_seconds_count")


class Regime(Enum):
    """How a build delivers its iteration records (contract trtllm 2.3)."""

    DIRECT = "direct: the request itself drains the engine, about 2 s for each read"
    RACING = "racing: Prometheus and /metrics share one queue; gauges of Prometheus are read instead"
    TEE = "tee: a background task keeps the records for us"


async def prometheus_page(http: aiohttp.ClientSession, url: str) -> Page | None:
    """The Prometheus page, or None when the server runs without it (404)."""
    answer = await get(http, f"{url}/prometheus/metrics")
    return parse_page(answer.text(), answer.url) if answer.status == 200 else None


class TrtllmMetrics:
    """The one poller of a server; reading consumes, so a second one would take half of the records.

    Iterations that its answers do not tell of are taken from the log, where the server writes a line for each.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._lock = asyncio.Lock()
        self._records = RecordStream()
        self._sums = CounterSums()
        self._page: Page | None = None
        self._page_read_s = -math.inf
        self._page_split = page_split()
        self._has_request_records = True
        self._log_records: deque[tuple[float, dict[str, object]]] = deque(maxlen=MOST_LOG_RECORDS)
        self._log_stream = RecordStream()
        self._log_sums = CounterSums()
        self.regime: Regime | None = None

    async def poll(self) -> Sequence[tuple[int, EngineSample]]:
        """New samples since the last call; empty when nothing ran.

        Raises:
            Unreachable: If nobody answers.
            EngineError: If the answer is not what TensorRT-LLM's metrics look like.
        """
        async with self._lock:
            samples = await self._poll_server()
            samples = self._with_log(samples)
            if not samples:
                return samples
            when_ns, newest = samples[-1]
            return [*samples[:-1], (when_ns, with_split(newest, await self._split()))]

    def line(self, text: str) -> bool:
        """Take a line of the server's log; returns whether it told of an iteration."""
        if (record := record_of_line(text)) is None:
            return False
        self._log_records.append((time.monotonic(), record))
        return True

    async def _poll_server(self) -> list[tuple[int, EngineSample]]:
        if self.regime is None:
            return await self._probe()
        if self.regime is Regime.RACING:
            return await self._poll_gauges()
        if self.regime is Regime.TEE:
            await self._read_counters()
        return self._samples(await self._read_records())

    def _with_log(self, samples: list[tuple[int, EngineSample]]) -> list[tuple[int, EngineSample]]:
        """The samples, or those of the log when the server's answers tell of no iteration."""
        lines = list(self._log_records)
        self._log_records.clear()
        if not lines or any(not math.isnan(sample.running) for _, sample in samples):
            return samples
        told = []
        placed = [pair for arrival_s, record in lines for pair in self._log_stream.accept([record], arrival_s)]
        for group in _by_period(placed):
            sample = self._log_sums.add([record for _, record in group], self._log_stream.lost)
            told.append((int(group[-1][0] * 1e9), sample))
        if told and samples:
            told[-1] = (told[-1][0], _filled(told[-1][1], samples[-1][1]))
        return told or samples

    async def _split(self) -> Split:
        """Where the time of the latest requests went: the page's histograms, else the records of `/perf_metrics`."""
        split = Split() if self._page is None else self._page_split.update(self._page)
        told = self._page is not None and not math.isnan(self._page.total(*E2E_COUNT))
        if told or not self._has_request_records or self._page is None:
            return split
        records = await get_json_or_none(self._http, f"{self._url}/perf_metrics")
        self._has_request_records = isinstance(records, list)
        return split_of_records(records) if isinstance(records, list) else split

    async def _probe(self) -> list[tuple[int, EngineSample]]:
        """Tell the regime by what answers and how fast; the records this takes are not lost.

        Before its first request every build answers at once, and with nothing: that does not tell yet.
        """
        first = await self._read_records()
        self._page = await prometheus_page(self._http, self._url)
        if self._page is None:
            self.regime = Regime.DIRECT
            return self._samples(first)
        self._sums.counts_prompts = False
        if first.latency_s < SLOW_ANSWER_S:
            samples = self._samples(first)
            self.regime = Regime.TEE if samples else None
            return samples
        # One slow answer can also be a busy host.
        second = await self._read_records()
        self.regime = Regime.RACING if second.latency_s >= SLOW_ANSWER_S else Regime.TEE
        return [*self._samples(first), *self._samples(second)]

    async def _read_records(self) -> Answer:
        answer = await get(self._http, f"{self._url}/metrics", METRICS_TIMEOUT_S)
        if answer.status != 200:
            raise EngineError(f"{answer.url} answers {answer.status}; it is not TensorRT-LLM's")
        return answer

    async def _read_counters(self) -> None:
        if time.monotonic() - self._page_read_s >= COUNTER_PERIOD_S:
            self._page = await prometheus_page(self._http, self._url)
            self._page_read_s = time.monotonic()

    async def _poll_gauges(self) -> list[tuple[int, EngineSample]]:
        self._page = await prometheus_page(self._http, self._url)
        if self._page is None:
            raise EngineError(f"{self._url}/prometheus/metrics is gone; was the server restarted with other settings?")
        sample = sample_of_page(self._page)
        if self._page.series and all(math.isnan(getattr(sample, each.name)) for each in fields(EngineSample)):
            raise EngineError(
                f"{self._url}/prometheus/metrics has none of TensorRT-LLM's metrics; is it another server?"
            )
        return [(time.monotonic_ns(), sample)]

    def _samples(self, answer: Answer) -> list[tuple[int, EngineSample]]:
        arrival_s = time.monotonic()
        page = answer.json()
        if not isinstance(page, list):
            raise EngineError(f"{answer.url} answers with no list of records; it is not TensorRT-LLM's")
        samples = []
        for group in _by_period(self._records.accept(page, arrival_s)):
            sample = self._sums.add([record for _, record in group], self._records.lost)
            samples.append((int(group[-1][0] * 1e9), sample))
        if samples and self._page is not None:
            when_ns, newest = samples[-1]
            samples[-1] = (when_ns, replace(newest, prompt_tokens_total=_counter(self._page, "prompt_tokens_total")))
        return samples


class CounterSums:
    """Adds up what the records tell as differences, since trtune began to read.

    Output tokens: one for each request in decode, what speculation added, and one for each finished request, whose
    first token came from its prefill. Prompt tokens are those computed, without cached ones; where the server has a
    Prometheus counter of them, `counts_prompts` is turned off.
    """

    def __init__(self) -> None:
        self.counts_prompts = True
        self._iterations = 0
        self._requests = 0.0
        self._context_tokens = 0.0
        self._generated_tokens = 0.0
        self._preemptions = 0.0
        self._reused = NAN
        self._missed = NAN
        self._hit_ratio = NAN
        self._before_s = NAN

    def add(self, records: Sequence[IterationRecord], lost: int) -> EngineSample:
        """One sample for consecutive records: gauges of the last one, means of what each iteration did."""
        last = records[-1]
        self._iterations += len(records)
        self._requests += _sum(record.completed for record in records)
        self._preemptions += _sum(record.paused for record in records)
        self._generated_tokens += _sum(record.completed for record in records)
        self._context_tokens += _sum(record.context_tokens for record in records)
        self._generated_tokens += _sum(record.generation_requests for record in records)
        self._generated_tokens += _sum(record.accepted for record in records)
        started = _sum(record.new_active for record in records)
        unscheduled = 0.0 if last.pipelined else max(0.0, last.active - last.scheduled)
        return EngineSample(
            running=last.active - unscheduled,
            waiting=last.queued + unscheduled,
            paused=last.paused,
            scheduled=_mean(record.scheduled for record in records),
            context_requests=_mean(record.context_requests for record in records),
            generation_requests=_mean(record.generation_requests for record in records),
            max_batch_size=last.admission_limit,
            kv_used_ratio=_ratio(last.kv_used_blocks, last.kv_max_blocks),
            kv_capacity_tokens=last.kv_max_blocks * last.tokens_per_block,
            kv_hit_ratio=self._recent_hit_ratio(last),
            kv_host_used_ratio=_ratio(last.host_used_blocks, last.host_max_blocks),
            iteration_ms=self._iteration_ms(records),
            gpu_step_ms=_mean(record.gpu_step_ms for record in records),
            context_tokens=_mean(record.context_tokens for record in records),
            accepted_per_step=_mean(record.acceptance_length for record in records),
            queue_ms=_ratio(_sum(record.queue_ms for record in records), started),
            prompt_tokens_total=self._context_tokens if self.counts_prompts else NAN,
            output_tokens_total=self._generated_tokens,
            requests_total=self._requests,
            preemptions_total=self._preemptions,
            iterations_total=float(self._iterations),
            lost_records_total=float(lost),
        )

    def _recent_hit_ratio(self, last: IterationRecord) -> float:
        """Of the blocks asked for since the last change; the server's own ratio includes its warm-up."""
        reused, missed = last.reused_blocks - self._reused, last.missed_blocks - self._missed
        if reused + missed > 0 and reused >= 0 and missed >= 0:
            self._hit_ratio = reused / (reused + missed)
        self._reused, self._missed = last.reused_blocks, last.missed_blocks
        return self._hit_ratio

    def _iteration_ms(self, records: Sequence[IterationRecord]) -> float:
        """Wall time of an iteration.

        With the overlap scheduler `iterLatencyMS` spans two iterations; builds without `hostStepTimeMS` are corrected
        by the time between records, which can only be too long (after an idle time).
        """
        times = []
        for record in records:
            gap_ms = (record.wall_s - self._before_s) * 1000.0
            self._before_s = record.wall_s
            latency_ms = min(record.latency_ms, gap_ms) if gap_ms > 0 else record.latency_ms
            times.append(latency_ms if math.isnan(record.host_step_ms) else record.host_step_ms)
        return _mean(times)


def with_split(sample: EngineSample, split: Split) -> EngineSample:
    """The sample with the times of finished requests; the queue time of the iteration records is newer and stays."""
    queue_ms = split.queue_ms if math.isnan(sample.queue_ms) else sample.queue_ms
    return replace(sample, queue_ms=queue_ms, prefill_ms=split.prefill_ms, decode_ms=split.decode_ms)


def _filled(sample: EngineSample, other: EngineSample) -> EngineSample:
    """The sample with the other's values in place of its unknown ones."""
    missing = {each.name for each in fields(EngineSample) if math.isnan(getattr(sample, each.name))}
    return replace(sample, **{name: getattr(other, name) for name in missing})


def sample_of_page(page: Page) -> EngineSample:
    """A sample out of the Prometheus gauges; they keep their last value while the server is idle."""
    blocks = _gauge(page, "kv_cache_max_blocks")
    latency_s = _gauge(page, "iteration_latency_seconds")
    return EngineSample(
        running=_gauge(page, "num_requests_running"),
        waiting=_gauge(page, "num_requests_waiting"),
        paused=_gauge(page, "num_paused_requests"),
        scheduled=_gauge(page, "num_scheduled_requests"),
        context_requests=_gauge(page, "num_context_requests"),
        generation_requests=_gauge(page, "num_generation_requests"),
        max_batch_size=first_positive(_gauge(page, "max_batch_size_runtime"), _gauge(page, "max_num_active_requests")),
        kv_used_ratio=_gauge(page, "kv_cache_utilization"),
        kv_capacity_tokens=blocks * _gauge(page, "kv_cache_tokens_per_block"),
        kv_hit_ratio=_gauge(page, "kv_cache_hit_rate"),
        kv_host_used_ratio=_gauge(page, "kv_cache_host_utilization"),
        iteration_ms=latency_s * 1000.0,
        context_tokens=_gauge(page, "total_context_tokens"),
        accepted_per_step=first_positive(_gauge(page, "spec_decode_acceptance_length")),
        prompt_tokens_total=_counter(page, "prompt_tokens_total"),
        output_tokens_total=_counter(page, "generation_tokens_total"),
        requests_total=_counter(page, "request_success_total"),
    )


def _gauge(page: Page, name: str) -> float:
    """A gauge with or without the prefix that came with 1.3; a negative one is no measurement."""
    value = page.largest(f"trtllm_{name}", name)
    return value if value >= 0 else NAN


def _counter(page: Page, name: str) -> float:
    """A counter of finished requests; those still running are not in it (contract trtllm 3.1)."""
    return page.total(f"trtllm_{name}", name)


def _by_period(records: Sequence[tuple[float, IterationRecord]]) -> list[list[tuple[float, IterationRecord]]]:
    """Consecutive records in groups of at most `SAMPLE_PERIOD_S`."""
    groups: list[list[tuple[float, IterationRecord]]] = []
    for placed in records:
        if not groups or placed[0] - groups[-1][0][0] >= SAMPLE_PERIOD_S:
            groups.append([])
        groups[-1].append(placed)
    return groups


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _sum(values: Iterable[float]) -> float:
    return math.fsum(_known(values))


def _mean(values: Iterable[float]) -> float:
    known = _known(values)
    return math.fsum(known) / len(known) if known else NAN


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else NAN
