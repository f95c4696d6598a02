"""Reports of `trtllm-bench --report_json` as a session: a trial for each report (contract trtllm 7.1).

trtllm-bench runs the engine in its own process: there is no HTTP in its figures, and its percentiles are values of single
requests, without interpolation. Both is noted with every level.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sessions.recorder import Recorder
from sessions.text import clean_line
from trtune.errors import UsageError
from trtune.start import session_facts
from tuner.plan import EnginePlan, Plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sessions.metrics import Summary

LARGEST_FILE_BYTES: Final = 64 << 20
NOTES: Final = (
    "imported from trtllm-bench: measured in the engine's own process, without HTTP",
    "percentiles are those of trtllm-bench: single values, not interpolated",
)

_SETTINGS: Final = (
    ("world_info", "tp_size", "tensor_parallel_size"),
    ("world_info", "pp_size", "pipeline_parallel_size"),
    ("world_info", "ep_size", "moe_expert_parallel_size"),
    ("world_info", "max_batch_size", "max_batch_size"),
    ("world_info", "max_num_tokens", "max_num_tokens"),
    ("world_info", "kv_cache_percentage", "kv_cache_config.free_gpu_memory_fraction"),
    ("world_info", "scheduling_policy", "scheduler_config.capacity_scheduler_policy"),
    ("engine", "kv_cache_dtype", "kv_cache_config.dtype"),
)
"""Section and key of a report, and the knob of the server that means the same."""

_SCALARS: Final = (
    ("performance", "request_throughput_req_s", "request_throughput", 1.0),
    ("performance", "system_output_throughput_tok_s", "output_token_throughput", 1.0),
    ("performance", "system_total_throughput_tok_s", "total_token_throughput", 1.0),
    ("performance", "output_throughput_per_user_tok_s", "output_token_throughput_per_user", 1.0),
    ("performance", "output_throughput_per_gpu_tok_s", "output_token_throughput_per_gpu", 1.0),
    ("performance", "total_latency_ms", "window", 1e-3),
    ("request_info", "num_requests", "requests", 1.0),
    ("request_info", "avg_num_concurrent_requests", "concurrency", 1.0),
    ("request_info", "avg_input_length", "isl", 1.0),
    ("request_info", "avg_output_length", "osl", 1.0),
    ("world_info", "world_size", "gpus", 1.0),
)
"""Section and key of a report, our metric, and the factor to its unit."""

_DISTRIBUTIONS: Final = (
    ("performance", "request_latency_percentiles_ms", "e2e"),
    ("streaming_metrics", "ttft_percentiles", "ttft"),
    ("streaming_metrics", "tpot_percentiles", "tpot"),
    ("streaming_metrics", "gen_tps_percentiles", "output_token_throughput_per_user"),
)
_STATS: Final = {
    **{f"p{rank}": f"p{rank}" for rank in (50, 90, 95, 99)},
    "minimum": "min",
    "maximum": "max",
    "average": "avg",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What a report tells in our words.

    Attributes:
        where: Its file.
        model: Model.
        version: Version of TensorRT-LLM.
        backend: `Pytorch` or `TRT`.
        params: Settings by knob name.
        concurrency: Requests at once, averaged over the run.
        result: Metrics.
    """

    where: str
    model: str
    version: str
    backend: str
    params: dict[str, Any]
    concurrency: float
    result: Summary


def read_report(path: Path) -> Report:
    """A report in a file.

    Raises:
        UsageError: In one line, if the file cannot be read or is no report of trtllm-bench.
    """
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise UsageError(f"{path}: larger than {LARGEST_FILE_BYTES} bytes; it is no report of trtllm-bench")
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON; give a file that trtllm-bench --report_json wrote") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if not isinstance(data, dict) or math.isnan(_number(data, "performance", "system_output_throughput_tok_s")):
        raise UsageError(f"{path}: no report of trtllm-bench: performance.system_output_throughput_tok_s is missing")
    engine = _section(data, "engine")
    return Report(
        where=path.name,
        model=_word(engine.get("model")),
        version=_word(engine.get("version")),
        backend=_word(engine.get("backend")),
        params=_params(data),
        concurrency=_number(data, "request_info", "avg_num_concurrent_requests"),
        result=_result(data),
    )


def import_reports(paths: Sequence[Path], target: Path) -> None:
    """Write a session with a trial for each report; the one with the highest output throughput is its best.

    Raises:
        UsageError: If a file is no report, or they are of different models.
        SessionExists: If the target is taken.
    """
    reports = [read_report(path) for path in paths]
    models = sorted({report.model for report in reports})
    if len(models) > 1:
        raise UsageError(f"the reports are of different models ({', '.join(models)}): import each model on its own")
    plan = Plan(name="trtllm-bench", engine=EnginePlan(name="trtllm", model=models[0], version=reports[0].version))
    facts = session_facts(plan)
    facts["imported"] = {"from": "trtllm-bench", "files": [report.where for report in reports]}
    facts["workload"] = {"label": _workload(reports)}
    recorder = Recorder.create(target, facts)
    try:
        for report in reports:
            _write(recorder, report)
        recorder.set_worker("done", f"imported from {len(reports)} reports of trtllm-bench")
    finally:
        recorder.close()


def _write(recorder: Recorder, report: Report) -> None:
    number = recorder.start_trial("bench", report.params)
    recorder.update_trial(number, effective=report.params)
    concurrency = report.concurrency if report.concurrency > 0 else 1.0
    level = recorder.start_level(number, "concurrency", round(concurrency, 2))
    backend = f", backend {report.backend}" if report.backend else ""
    recorder.end_level(level, "valid", result=report.result, notes=[*NOTES, f"file {report.where}{backend}"])
    score = report.result["output_token_throughput"]["avg"]
    recorder.end_trial(number, "complete", score=score, feasible=True, result=report.result)


def _params(data: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for section, key, knob in _SETTINGS:
        value = _section(data, section).get(key)
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int | float) and math.isfinite(value):
            found[knob] = value
        elif isinstance(value, str):
            found[knob] = _as_the_server_has_it(knob, _word(value))
    return found


def _as_the_server_has_it(knob: str, word: str) -> str:
    """The report prints enumerations in its own way: `CapacitySchedulerPolicy.GUARANTEED_NO_EVICT`, `FP8`."""
    if knob == "kv_cache_config.dtype":
        return word.lower()
    return word.rpartition(".")[2].upper().replace(" ", "_")


def _result(data: Mapping[str, Any]) -> Summary:
    found: Summary = {}
    for section, key, metric, factor in _SCALARS:
        value = _number(data, section, key)
        if not math.isnan(value):
            found[metric] = {"avg": value * factor}
    for section, key, metric in _DISTRIBUTIONS:
        told = _section(_section(data, section), key)
        stats = {ours: number for theirs, ours in _STATS.items() if not math.isnan(number := _finite(told.get(theirs)))}
        if stats:
            found[metric] = {**found.get(metric, {}), **stats}
    return found


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = data.get(name)
    return section if isinstance(section, dict) else {}


def _number(data: Mapping[str, Any], section: str, key: str) -> float:
    return _finite(_section(data, section).get(key))


def _finite(value: object) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15
    return float(value) if usable and isinstance(value, int | float) else math.nan


def _word(value: object) -> str:
    return clean_line(value)[:200] if isinstance(value, str) else ""


def _workload(reports: Sequence[Report]) -> str:
    lengths = [(report.result.get("isl", {}).get("avg"), report.result.get("osl", {}).get("avg")) for report in reports]
    isl, osl = lengths[0]
    same = all(pair == lengths[0] for pair in lengths) and isl is not None and osl is not None
    return f"trtllm-bench, ISL {isl:.0f}, OSL {osl:.0f}" if same else "trtllm-bench"
