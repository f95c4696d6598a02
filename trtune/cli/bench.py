"""Measure a running server under load: exact token times, at one level or several."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

EPILOG = """\
examples:
  trtune bench http://127.0.0.1:8000 --concurrency 1,8,32 --isl 1024 --osl 128
  trtune bench http://127.0.0.1:8000 --rate 4 --duration 60 --slo ttft:p99:<=:500
  trtune bench http://127.0.0.1:8000 --concurrency 8 --requests 100 --json
  trtune bench http://127.0.0.1:8000 --isl '{ distribution = "uniform", min = 128, max = 1024 }'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    from pathlib import Path

    from trtune.cli._common import add_output_flags
    from trtune.cli._target import add_target_flags

    add_target_flags(parser)
    load = parser.add_argument_group("load")
    load.add_argument("--concurrency", metavar="N[,N...]", help="closed loop: requests at once (default: 8)")
    load.add_argument("--rate", metavar="R[,R...]", help="open loop: requests per second")
    load.add_argument("--isl", help="prompt length in tokens (default: 512), or a distribution as a plan has it")
    load.add_argument("--osl", help="answer length in tokens (default: 128), or a distribution as a plan has it")
    load.add_argument("--requests", type=int, help="exactly so many requests a level")
    load.add_argument("--duration", type=float, metavar="SECONDS", help="measuring window of a level")
    load.add_argument("--precision", metavar="SHARE", help="end when the interval is this narrow: 2%% or 0.02")
    load.add_argument("--min", type=float, metavar="SECONDS", help="shortest measuring window")
    load.add_argument("--max", type=float, metavar="SECONDS", help="longest measuring window")
    load.add_argument("--warmup", type=float, metavar="SECONDS", help="warm-up before the window")
    load.add_argument("--seed", type=int, help="the same seed sends the same requests")
    load.add_argument("--slo", action="append", default=[], help="add a limit, such as ttft:p99:<=:500")
    load.add_argument("--cluster", metavar="ADDRESS", help="fleet.cluster: Ray cluster whose nodes may send load too")
    load.add_argument("--load-hosts", type=int, metavar="N", help="load.hosts: nodes of it that do")
    parser.add_argument("--compat", choices=["aiperf"], help="write AIPerf's files too")
    parser.add_argument(
        "--artifacts", type=Path, metavar="FOLDER", help="folder for --compat files (default: artifacts)"
    )
    add_output_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from trtune.cli._common import begin_session_for, show
    from trtune.cli._target import target_tables
    from trtune.errors import UsageError
    from trtune.planfile import make_plan, put, set_fields

    if args.concurrency and args.rate:
        raise UsageError("give --concurrency (closed loop) or --rate (open loop), not both")
    if args.duration is not None and (args.min is not None or args.max is not None):
        raise UsageError("give --duration (a window of that length) or --min and --max (its limits), not both")
    artifacts = _artifacts(args)
    tables = target_tables(args, "bench")
    put(tables, "load.kind", "rate" if args.rate else "concurrency")
    put(tables, "load.levels", _numbers(args.rate or args.concurrency or "8"))
    for field, value in (
        ("fleet.cluster", args.cluster),
        ("load.hosts", args.load_hosts),
        ("workload.isl", _length(args.isl)),
        ("workload.osl", _length(args.osl)),
        ("workload.seed", args.seed),
        ("load.stop.max_requests", args.requests),
        ("load.stop.min_s", args.min if args.duration is None else args.duration),
        ("load.stop.max_s", args.max if args.duration is None else args.duration),
        ("load.stop.precision", _share(args.precision)),
        ("load.stop.warmup_s", args.warmup),
    ):
        if value is not None:
            put(tables, field, value)
    if args.requests is not None and args.max is None and args.duration is None:
        # «100 requests» means 100, however long they take.
        put(tables, "load.warmup_rounds", 0)
        put(tables, "load.stop.min_requests", max(args.requests, 1))
        put(tables, "load.stop.min_s", 0)
        put(tables, "load.stop.max_s", 24 * 3600)
    put(tables, "objective.slos", args.slo)
    set_fields(tables, args.set)
    path = begin_session_for(make_plan(tables, "flags"), args)
    status = show(path, args, live=True)
    if artifacts is not None:
        from trtune.compat import write_aiperf

        for folder in write_aiperf(path, artifacts):
            print(f"AIPerf's files: {folder}", file=sys.stderr)
    return status


def _artifacts(args: argparse.Namespace) -> Path | None:
    """The folder of the --compat files, made before anything is measured for them; None without --compat."""
    from pathlib import Path

    from trtune.errors import UsageError

    if not args.compat:
        if args.artifacts is not None:
            raise UsageError("--artifacts is the folder of --compat's files: give --compat aiperf too")
        return None
    folder = args.artifacts or Path("artifacts")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--artifacts {folder}: {error.strerror}") from error
    return Path(folder)


def _numbers(text: str) -> list[float]:
    from trtune.errors import UsageError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{text}: write numbers with commas between them, such as 1,8,32") from error


def _share(text: str | None) -> float | None:
    """`2%` or `0.02` as a share."""
    from trtune.errors import UsageError

    if text is None:
        return None
    try:
        return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError as error:
        raise UsageError(f"--precision {text}: write a share such as 2% or 0.02") from error


def _length(text: str | None) -> object:
    from trtune.planfile import toml_value

    return None if text is None else toml_value(text)
