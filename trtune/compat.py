"""Writes a bench session in the file layouts of another tool, so that scripts made for that tool go on working."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sessions.clock import SessionClock
from sessions.reader import SessionReader
from tuner.load.aiperf import RECORDS_NAME, SUMMARY_NAME, Run, write_records, write_summary
from tuner.load.plan import request_id_prefix
from tuner.load.spec import Level
from tuner.stored_plan import stored_plan

if TYPE_CHECKING:
    from pathlib import Path


def write_aiperf(session: Path, folder: Path) -> list[Path]:
    """Write AIPerf's files for every measured level, one folder a level.

    Args:
        session: A bench session.
        folder: Where the folders go, such as `artifacts/concurrency8`.

    Returns:
        The folders written.

    Raises:
        SessionError: If the session holds no plan that can be read.
        OSError: If a file cannot be written.
    """
    written = []
    with SessionReader(session) as reader:
        plan = stored_plan(reader)
        slos = plan.to_objectives()[0].slos
        clock = SessionClock(reader.origin_utc_ns(), time.monotonic_ns())
        for record in reader.levels():
            if record.window_ns is None:
                continue
            level = Level("rate" if record.kind == "rate" else "concurrency", record.value)
            run = Run(
                table=reader.requests(record.id),
                window_start_ns=record.window_ns[0],
                window_end_ns=record.window_ns[1],
                clock=clock,
                request_id_prefix=request_id_prefix(plan.workload, level),
                # Without the engine's part: its environment and arguments are not the load's business.
                config={
                    "workload": plan.workload.model_dump(mode="json"),
                    "load": plan.load.model_dump(mode="json"),
                },
                was_cancelled=record.state == "aborted",
                slos=slos,
            )
            place = folder / f"{record.kind}{record.value:g}"
            place.mkdir(parents=True, exist_ok=True)
            write_summary(run, place / SUMMARY_NAME)
            write_records(run, place / RECORDS_NAME)
            written.append(place)
    return written
