"""Lines that `print_iter_log` writes, one for each iteration: the metrics of last resort (contract trtllm 9).

The order of the fields and `=` or `:` between name and value differ between releases, so each field is found by itself.
"""

from __future__ import annotations

import re
from typing import Any

_ITERATION = re.compile(r"\biter = (\d{1,12}),")
_RANK = re.compile(r"\bglobal_rank = (\d{1,6})|\[RANK (\d{1,6})\]")
_FIELDS = {
    "scheduled": re.compile(r"\bnum_scheduled_requests\s*[:=]\s*(\d{1,9})"),
    "kv_used": re.compile(r"\bkv_cache_util\s*[:=]\s*([\d.]{1,20})"),
    "host_ms": re.compile(r"\bhost_step_time\s*=\s*([\d.]{1,20}(?:e[+-]?\d{1,3})?)\s*ms"),
    "device_ms": re.compile(r"\bprev_device_step_time\s*=\s*([\d.]{1,20}(?:e[+-]?\d{1,3})?)\s*ms"),
    "context_requests": re.compile(r"'num_ctx_requests': (\d{1,9})"),
    "context_tokens": re.compile(r"'num_ctx_tokens': (\d{1,12})"),
}


def record_of_line(line: str) -> dict[str, Any] | None:
    """The record of `/metrics` that a log line stands for, with what the line tells; None for every other line.

    Of several ranks that log only the first counts: the ranks of tensor parallelism say the same. Requests that wait are
    not told; of the KV cache only the share in use.
    """
    iteration = _ITERATION.search(line)
    if iteration is None or not _is_first_rank(line):
        return None
    found = {name: _number(pattern, line) for name, pattern in _FIELDS.items()}
    scheduled, context = found["scheduled"], found["context_requests"]
    if scheduled is None:
        return None
    batch = {
        "numScheduledRequests": scheduled,
        "numContextRequests": context,
        "numGenRequests": None if context is None else max(scheduled - context, 0.0),
        "numCtxTokens": found["context_tokens"],
    }
    return {
        "iter": int(iteration[1]),
        "numActiveRequests": scheduled,
        "inflightBatchingStats": batch,
        "kvCacheStats": None if found["kv_used"] is None else {"usedNumBlocks": found["kv_used"], "maxNumBlocks": 1},
        "hostStepTimeMS": found["host_ms"],
        "prevDeviceStepTimeMS": found["device_ms"],
    }


def _is_first_rank(line: str) -> bool:
    return not any(int(first or second) for first, second in _RANK.findall(line))


def _number(pattern: re.Pattern[str], line: str) -> float | None:
    match = pattern.search(line)
    try:
        return None if match is None else float(match[1])
    except ValueError:
        return None
