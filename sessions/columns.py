"""The columns of each kind of sample: one table from which writer, reader and screen take names and units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Column:
    """One number of a sample.

    Attributes:
        name: Name, unit at its end.
        width: `f` for 4 bytes (gauges), `d` for 8 bytes (counters, which would lose their last digits).
        help: One line for a person.
    """

    name: str
    width: Literal["f", "d"]
    help: str


def _table(text: str) -> tuple[Column, ...]:
    rows = (line.split(None, 2) for line in text.strip().splitlines())
    return tuple(Column(name, "d" if width == "d" else "f", help_) for name, width, help_ in rows)


GPU_COLUMNS = _table("""
util_pct            f share of time in which any kernel ran
mem_used_bytes      d memory in use
power_w             f power drawn
power_limit_w       f enforced power limit
sm_clock_mhz        f SM clock
max_sm_clock_mhz    f highest SM clock
mem_clock_mhz       f memory clock
temp_c              f core temperature
throttle_mask       d NVML clock-event reasons, a bit mask
energy_j            d energy since the driver's start
sm_active_pct       f share of time in which an SM had work
tensor_active_pct   f share of time in which the tensor pipes worked
dram_active_pct     f share of peak memory bandwidth
pcie_tx_bytes_s     d PCIe out
pcie_rx_bytes_s     d PCIe in
nvlink_tx_bytes_s   d NVLink out
nvlink_rx_bytes_s   d NVLink in
server_mem_bytes    d memory held by the server's processes
other_mem_bytes     d memory held by other processes
""")

ENGINE_COLUMNS = _table("""
running             f requests admitted
waiting             f requests in the queue
paused              f requests pushed back to the queue
scheduled           f requests in the current iteration
context_requests    f of these, in prefill
generation_requests f of these, in decode
max_batch_size      f limit of requests in an iteration
kv_used_ratio       f share of KV-cache blocks in use
kv_capacity_tokens  d KV-cache capacity
kv_hit_ratio        f share of looked-up blocks found in the cache
kv_host_used_ratio  f share of the host tier of the KV cache in use
iteration_ms        f wall time of an iteration
gpu_step_ms         f GPU time of an iteration
context_tokens      f prefill tokens in the iteration
accepted_per_step   f tokens per request and step with speculative decoding
queue_ms            f time in the queue of the requests admitted last
prompt_tokens_total d prompt tokens since the server's start
output_tokens_total d output tokens since the server's start
requests_total      d requests completed since the server's start
preemptions_total   d requests pushed back since the server's start
iterations_total    d iterations since the server's start
lost_records_total  d iteration records known to be lost
prefill_ms          f time from a request's first iteration to its first token, mean of those finished last
decode_ms           f time from the first token to the last, mean of those finished last
""")

LOAD_COLUMNS = _table("""
concurrency         f concurrency asked for
rate                f request rate asked for, per second
in_flight           f requests under way
done_total          d requests answered in this level
failed_total        d requests that failed in this level
output_tokens_total d output tokens received in this level
input_tokens_total  d prompt tokens sent in this level
output_tps          f output tokens per second
request_rps         f requests finished per second
ttft_p50_ms         f time to first token, median
ttft_p90_ms         f time to first token, 90th percentile
ttft_p99_ms         f time to first token, 99th percentile
itl_p50_ms          f inter-token latency, median
itl_p99_ms          f inter-token latency, 99th percentile
tpot_p50_ms         f time per output token, median
tpot_p99_ms         f time per output token, 99th percentile
e2e_p50_ms          f request latency, median
e2e_p99_ms          f request latency, 99th percentile
client_lag_p99_ms   f how late we read what the kernel had stamped, 99th percentile
slo_met_ratio       f share of the requests ended last that met every SLO on single requests
""")

COLUMNS = {"gpu": GPU_COLUMNS, "engine": ENGINE_COLUMNS, "load": LOAD_COLUMNS}
"""Columns by kind of source."""
