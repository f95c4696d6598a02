"""AIPerf's file layouts hold our results under AIPerf's definitions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from sessions.clock import SessionClock
from sessions.requests import ABSENT, ClockKind, RequestStatus, RequestTable
from sessions.slo import Slo
from tuner.load.aiperf import RECORDS_NAME, SUMMARY_NAME, Run, summary, write_records, write_summary

MS = 1_000_000
EPOCH_NS = 1_800_000_000 * 1_000_000_000


def row(index: int, sent_ms: int, chunks_ms: tuple[int, ...], **other: Any) -> dict[str, Any]:
    sent_ns = sent_ms * MS
    return {
        "index": index, "session": ABSENT, "turn": 0, "scheduled_ns": sent_ns, "sent_ns": sent_ns,
        "first_ns": sent_ns + chunks_ms[0] * MS if chunks_ms else ABSENT,
        "last_ns": sent_ns + chunks_ms[-1] * MS if chunks_ms else ABSENT,
        "end_ns": sent_ns + (chunks_ms[-1] if chunks_ms else 5) * MS + 1,
        "isl_tokens": 10, "osl_tokens": len(chunks_ms), "cached_tokens": ABSENT, "status": RequestStatus.OK, "http_status": 200,
        "clock": ClockKind.KERNEL, "lag_first_us": 1, "lag_max_us": 1, "doubtful_gaps": 0, "reused": 0, "error": ABSENT,
        "chunk_us": [ms * 1000 for ms in chunks_ms], "chunk_tokens": [1] * len(chunks_ms), **other,
    }  # fmt: skip


@pytest.fixture
def run() -> Run:
    rows = [
        row(0, 0, (50, 60)),
        row(1, 200, (100, 120, 140)),
        row(2, 300, (200, 230, 260)),
        row(3, 400, (), status=RequestStatus.HTTP, http_status=500, error=0),
        row(4, 500, (40,), status=RequestStatus.CANCELLED, error=1),
        row(5, 900, (100, 300), status=RequestStatus.CANCELLED, error=1),
    ]
    table = RequestTable.from_rows(rows, errors=("HTTP 500: no", "given up by the workload"))
    return Run(table, 100 * MS, 1100 * MS, SessionClock(EPOCH_NS, 0), "t-", {"concurrency": 3})


def test_the_summary_has_statistics_by_tag(run: Run, tmp_path: Path) -> None:
    write_summary(run, tmp_path / SUMMARY_NAME)
    found = orjson.loads((tmp_path / SUMMARY_NAME).read_bytes())
    assert found["time_to_first_token"]["avg"] == 150
    assert found["time_to_first_token"]["unit"] == "ms"
    assert found["time_to_first_token"]["count"] == 2
    assert found["time_to_first_token"]["sum"] == 300
    assert set(found["request_latency"]) >= {
        "min",
        "max",
        "std",
        "p1",
        "p5",
        "p10",
        "p25",
        "p50",
        "p75",
        "p90",
        "p95",
        "p99",
    }
    assert found["inter_token_latency"]["avg"] == pytest.approx(25)
    assert found["inter_chunk_latency"]["count"] == 4
    assert found["request_throughput"] == {"unit": "requests/sec", "avg": 2.0}
    assert found["output_token_throughput"]["avg"] == pytest.approx(6)
    assert found["error_request_count"]["avg"] == 2
    assert found["error_summary"][0]["error_details"]["message"] in ("HTTP 500: no", "given up by the workload")
    assert found["trtune_config"] == {"concurrency": 3}
    assert "input_config" not in found  # AIPerf's models take none but their own
    assert found["start_time"].startswith("2027-01-15T08:00:00.1")
    assert not found["was_cancelled"]
    assert summary(replace(run, was_cancelled=True))["was_cancelled"]


def test_goodput_is_told_where_there_are_limits_for_requests(run: Run) -> None:
    told = summary(replace(run, slos=[Slo("ttft", "each", "<=", 150.0)]))

    assert told["good_request_count"] == {"unit": "requests", "avg": 1}
    assert told["goodput"] == {"unit": "requests/sec", "avg": 1}
    assert "goodput" not in summary(run)


def test_the_records_are_those_of_the_summary_and_the_warm_up(run: Run, tmp_path: Path) -> None:
    write_records(run, tmp_path / RECORDS_NAME)
    lines = [orjson.loads(line) for line in (tmp_path / RECORDS_NAME).read_bytes().splitlines()]
    assert [line["metadata"]["x_request_id"] for line in lines] == ["t-0", "t-1", "t-2", "t-3", "t-4"]
    assert [line["metadata"]["benchmark_phase"] for line in lines] == ["warmup", *["profiling"] * 4]
    good = lines[1]
    assert good["metadata"]["request_start_ns"] == EPOCH_NS + 200 * MS
    assert good["metadata"]["request_ack_ns"] == EPOCH_NS + 300 * MS
    assert good["metrics"]["time_to_first_token"] == {"value": 100.0, "unit": "ms"}
    assert good["metrics"]["inter_chunk_latency"]["value"] == [20.0, 20.0]
    assert good["metrics"]["inter_token_latency"]["value"] == 20.0
    assert good["error"] is None
    failed, cancelled = lines[3], lines[4]
    assert failed["error"] == {"code": 500, "type": "HTTP", "message": "HTTP 500: no"}
    assert failed["metrics"] == {}
    assert cancelled["metadata"]["was_cancelled"]
    assert cancelled["error"]["code"] == 499


def test_a_run_without_a_good_request_can_be_written(tmp_path: Path) -> None:
    table = RequestTable.from_rows([row(0, 0, (), status=RequestStatus.CONNECT)])
    write_summary(Run(table, 0, 100 * MS, SessionClock(EPOCH_NS, 0)), tmp_path / SUMMARY_NAME)
    found = orjson.loads((tmp_path / SUMMARY_NAME).read_bytes())
    assert found["time_to_first_token"] == {"unit": "ms"}
    assert found["request_count"]["avg"] == 0
