"""The load of the winning level as a command of AIPerf, to check the result with another tool.

AIPerf's flags: ai-dynamo/aiperf, docs/cli_options.md, and its pages on arrival patterns.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sessions.reader import SessionReader
from trtune.errors import UsageError
from trtune.exports.plain import shell_words

if TYPE_CHECKING:
    from sessions.records import LevelRecord
    from trtune.exports.winner import Winner
    from tuner.load.spec import Workload

ENDPOINTS = {"completions": "completions", "chat": "chat"}
DATASETS = {"mooncake": "mooncake_trace", "jsonl": "single_turn"}


def aiperf(winner: Winner) -> str:
    """An `aiperf profile` command for the level that gave the score.

    Raises:
        UsageError: If AIPerf has no such load.
    """
    endpoint = ENDPOINTS.get(winner.engine.request_api)
    if endpoint is None:
        raise UsageError(f"AIPerf does not speak the API that {winner.engine.title} is measured at")
    level = _level(winner)
    workload = winner.plan.workload
    requests = level.result.get("requests", {}).get("avg", math.nan)
    words = ["aiperf", "profile", "--model", winner.model or "MODEL"]
    words += ["--url", winner.wishes.url or f"http://127.0.0.1:{winner.wishes.port}"]
    words += ["--endpoint-type", endpoint, "--streaming", *_lengths(workload)]
    if level.kind == "concurrency":
        words += ["--concurrency", f"{level.value:g}"]
    else:
        pattern = workload.arrivals.pattern
        if pattern == "trace":
            words += ["--fixed-schedule"]
        else:
            words += ["--request-rate", f"{level.value:g}", "--arrival-pattern", pattern]
        if pattern == "gamma":
            words += ["--arrival-smoothness", f"{workload.arrivals.burstiness:g}"]
    if workload.ignore_eos:
        words += ["--extra-inputs", "ignore_eos:true"]
    if math.isfinite(requests) and requests >= 1:
        words += ["--request-count", str(int(requests))]
    words += ["--random-seed", str(workload.seed)]
    notes = [winner.note(), *_left_out(workload)]
    return "".join(f"# {note}\n" for note in notes) + shell_words(tuple(words)) + "\n"


def _level(winner: Winner) -> LevelRecord:
    """The level whose result is the trial's.

    Raises:
        UsageError: If none was measured.
    """
    with SessionReader(winner.path) as reader:
        levels = [level for level in reader.levels(winner.trial.number) if level.state == "valid"]
    if not levels:
        raise UsageError(f"trial {winner.trial.number} was not measured under load")
    return next((level for level in levels if level.result == winner.trial.result), levels[-1])


def _lengths(workload: Workload) -> list[str]:
    if workload.dataset is not None:
        if workload.dataset.format == "sharegpt":
            return ["--public-dataset", "sharegpt"]
        kind = DATASETS[workload.dataset.format]
        return ["--input-file", str(workload.dataset.path), "--custom-dataset-type", kind]
    return [
        *("--synthetic-input-tokens-mean", f"{workload.isl.mean_tokens():.0f}"),
        *("--synthetic-input-tokens-stddev", f"{_spread(workload.isl):.0f}"),
        *("--output-tokens-mean", f"{workload.osl.mean_tokens():.0f}"),
        *("--output-tokens-stddev", f"{_spread(workload.osl):.0f}"),
    ]


def _spread(length: object) -> float:
    """Standard deviation where the distribution has one of its own; AIPerf draws normal lengths only."""
    told = getattr(length, "std", 0.0)
    return float(told) if isinstance(told, int | float) else 0.0


def _left_out(workload: Workload) -> list[str]:
    """What AIPerf's command does not say of the load, for a person to judge."""
    told = [
        (workload.prefix is not None, "shared prefixes: see AIPerf's --num-prefix-prompts and --prefix-prompt-length"),
        (workload.cancel.share_ratio > 0, "cancelled requests: see AIPerf's --request-cancellation-rate"),
        (workload.turns.count.mean_tokens() > 1, "conversations: see AIPerf's --session-turns-mean"),
        (bool(workload.extra), "further request fields: see AIPerf's --extra-inputs"),
    ]
    return [f"not in this command: {text}" for holds, text in told if holds]
