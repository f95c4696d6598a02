"""Reports of trtllm-bench become a session that every view reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sessions.metrics import METRICS
from sessions.reader import SessionReader
from trtune.cli import run
from trtune.exports.formats import FORMS
from trtune.exports.winner import Wishes


def report(tp: int, throughput: float, **engine: Any) -> dict[str, Any]:
    """A report in the shape that the contract tells; its numbers are invented."""
    percentiles = {"p50": 100.0, "p90": 150.0, "p95": 160.0, "p99": 170.0}
    return {
        "engine": {
            "model": "meta-llama/Llama-3.1-8B",
            "version": "1.2.1",
            "backend": "Pytorch",
            "kv_cache_dtype": "FP8",
            **engine,
        },
        "world_info": {
            "tp_size": tp,
            "pp_size": 1,
            "world_size": tp,
            "max_batch_size": 256,
            "max_num_tokens": 8192,
            "scheduling_policy": "GUARANTEED_NO_EVICT",
            "kv_cache_percentage": 0.9,
        },
        "request_info": {
            "num_requests": 1000,
            "avg_num_concurrent_requests": 127.4,
            "avg_input_length": 1024.0,
            "avg_output_length": 128.0,
        },
        "performance": {
            "total_latency_ms": 30_000.0,
            "request_throughput_req_s": 33.3,
            "system_output_throughput_tok_s": throughput,
            "system_total_throughput_tok_s": 9 * throughput,
            "output_throughput_per_gpu_tok_s": throughput / tp,
            "request_latency_percentiles_ms": {**percentiles, "minimum": 90.0, "maximum": 180.0, "average": 110.0},
        },
        "streaming_metrics": {"ttft_percentiles": percentiles, "tpot_percentiles": percentiles},
    }


def write(folder: Path, name: str, data: object) -> str:
    path = folder / name
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    target = tmp_path / "run.trtune"
    files = [write(tmp_path, f"tp{tp}.json", report(tp, 2000.0 * tp**0.9)) for tp in (1, 2)]
    assert run(["import", "trtllm-bench", *files, "--session", str(target)]) == 0
    return target


def test_each_report_is_a_trial_with_settings_level_and_metrics(imported: Path) -> None:
    with SessionReader(imported) as reader:
        first, second = reader.trials()
        (level,) = reader.levels(0)

        assert first.params == {
            "tensor_parallel_size": 1,
            "pipeline_parallel_size": 1,
            "max_batch_size": 256,
            "max_num_tokens": 8192,
            "kv_cache_config.free_gpu_memory_fraction": 0.9,
            "scheduler_config.capacity_scheduler_policy": "GUARANTEED_NO_EVICT",
            "kv_cache_config.dtype": "fp8",
        }
        assert (first.state, first.score) == ("complete", 2000.0)
        assert second.score == pytest.approx(3732.1, abs=0.1)
        assert (level.kind, level.value) == ("concurrency", 127.4)
        assert level.result["e2e"]["p99"] == 170.0
        assert level.result["ttft"] == {"p50": 100.0, "p90": 150.0, "p95": 160.0, "p99": 170.0}
        assert level.result["window"]["avg"] == 30.0
        assert set(level.result) <= set(METRICS)
        assert "without HTTP" in level.notes[0]


def test_the_session_says_where_it_comes_from(imported: Path) -> None:
    with SessionReader(imported) as reader:
        meta, worker = reader.meta(), reader.worker()

    assert meta["imported"] == {"from": "trtllm-bench", "files": ["tp1.json", "tp2.json"]}
    assert meta["workload"]["label"] == "trtllm-bench, ISL 1024, OSL 128"
    assert worker is not None
    assert worker.over


def test_the_best_can_be_exported_for_the_server(imported: Path) -> None:
    with SessionReader(imported) as reader:
        text = FORMS["config"].make(reader, None, Wishes())

    assert "tensor_parallel_size: 2" in text


def test_what_a_report_lacks_is_left_out(tmp_path: Path) -> None:
    target = tmp_path / "run.trtune"
    bare = {"performance": {"system_output_throughput_tok_s": 5.0, "request_throughput_req_s": float("nan")}}

    assert run(["import", "trtllm-bench", write(tmp_path, "bare.json", bare), "--session", str(target)]) == 0

    with SessionReader(target) as reader:
        assert reader.trials()[0].result == {"output_token_throughput": {"avg": 5.0}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<html>", "not JSON"),
        ("[]", "no report of trtllm-bench"),
        ("{}", "no report of trtllm-bench"),
        ('{"performance": {"system_output_throughput_tok_s": -1}}', "no report of trtllm-bench"),
        ('{"performance": {"system_output_throughput_tok_s": 1e400}}', "no report of trtllm-bench"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_other_files_are_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    target = tmp_path / "run.trtune"

    status = run(["import", "trtllm-bench", write(tmp_path, "other.json", text), "--session", str(target)])

    error = capsys.readouterr().err
    assert status == 2
    assert told in error
    assert error.count("\n") == 1
    assert not target.exists()


def test_reports_of_different_models_and_a_taken_path_are_refused(tmp_path: Path, imported: Path) -> None:
    one = write(tmp_path, "one.json", report(1, 1.0))
    other = write(tmp_path, "other.json", report(1, 1.0, model="qwen"))

    assert run(["import", "trtllm-bench", one, other, "--session", str(tmp_path / "x.trtune")]) == 2
    assert run(["import", "trtllm-bench", one, "--session", str(imported)]) == 1
