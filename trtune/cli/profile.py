"""Profile a server: start or stop its own profiler, or print how to start it under Nsight Systems."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

ANSWER_S = 120.0

EPILOG = """\
A server's profiler writes its traces on the server's host. While it runs, the server's times are not its own: levels that a
session measures meanwhile do not count.

examples:
  trtune profile start http://127.0.0.1:8000 --steps 20     the next 20 iterations of a running server
  trtune profile start SESSION                              the server of a running session, until it is stopped
  trtune profile stop SESSION
  trtune profile script SESSION --iterations 100-150        nsys for the best configuration of a session
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("action", choices=("start", "stop", "script"), help="what to do")
    parser.add_argument("target", help="base URL of a running server, or a session")
    parser.add_argument("--engine", help="which family of server it is (default: found out by asking it)")
    parser.add_argument("--api-key-env", default="", metavar="NAME", help="environment variable that holds the API key")
    group = parser.add_argument_group("start")
    group.add_argument("--steps", type=int, help="iterations to record (default: until it is stopped)")
    group.add_argument("--first-step", type=int, help="iteration to begin with (default: the next)")
    group.add_argument("--output-dir", help="folder for the traces, on the server's host")
    group.add_argument(
        "--activities", help="of CPU, GPU, CUDA_PROFILER, joined with commas (default: the server's own choice)"
    )
    group = parser.add_argument_group("script")
    group.add_argument("--iterations", default="", metavar="A-B", help="iterations to record (default: 100-150)")
    group.add_argument("--torch-trace", default="", metavar="FILE", help="write a trace of PyTorch's profiler too")
    group.add_argument("--trial", type=int, help="which trial (default: the best that meets every SLO)")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from sessions.text import clean_lines

    if args.action == "script":
        sys.stdout.write(_script(args))
        return 0
    if args.target.startswith(("http://", "https://")):
        print(clean_lines(_ask_server(args)))
        return 0
    return _ask_worker(args)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    from trtune.errors import UsageError

    if args.steps is not None and args.steps < 1:
        raise UsageError(f"--steps {args.steps}: must be at least 1")
    activities = args.activities.split(",") if args.activities else None
    told = {
        "num_steps": args.steps,
        "start_step": args.first_step,
        "output_dir": args.output_dir,
        "activities": activities,
    }
    return {name: value for name, value in told.items() if value is not None}


def _ask_server(args: argparse.Namespace) -> str:
    import asyncio

    import aiohttp

    from engines.registry import get_engine
    from trtune.cli._target import engine_at, server_url
    from tuner.server import bearer_headers

    options = _options(args) if args.action == "start" else {}
    url = server_url(args.target)
    engine = get_engine(engine_at(url, args))

    async def ask() -> str:
        async with aiohttp.ClientSession(headers=bearer_headers(args.api_key_env)) as http:
            return await engine.profile(http, url, args.action, options)

    return asyncio.run(ask())


def _ask_worker(args: argparse.Namespace) -> int:
    """Ask the worker of a session, and wait for its answer."""
    from sessions.commands import send_command
    from sessions.reader import SessionReader
    from trtune.cli._common import require_session
    from trtune.errors import FAILED, UsageError
    from trtune.start import worker_is_gone

    options = _options(args) if args.action == "start" else {}
    path: Path = require_session(args.target)
    with SessionReader(path) as reader:
        status = reader.worker()
        if status is None or status.over or worker_is_gone(reader):
            raise UsageError(f"{path}: nobody works on this session any more, so no server of it runs")
        identity = send_command(path, "profile", {"action": args.action, **options})
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            command = next((each for each in reader.commands() if each.id == identity), None)
            if command is not None and command.state in ("done", "refused"):
                print(command.reply, file=sys.stdout if command.state == "done" else sys.stderr)
                return 0 if command.state == "done" else FAILED
            time.sleep(0.2)
    print(f"trtune: the worker gave no answer within {ANSWER_S:g} s", file=sys.stderr)
    return FAILED


def _script(args: argparse.Namespace) -> str:
    from sessions.reader import SessionReader
    from trtune.cli._common import require_session
    from trtune.exports.profiling import nsys
    from trtune.exports.winner import Wishes, take_winner

    with SessionReader(require_session(args.target)) as reader:
        return nsys(take_winner(reader, args.trial, Wishes(iterations=args.iterations, trace=args.torch_trace)))
