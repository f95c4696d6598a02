"""Search the settings that serve your workload best."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

EPILOG = """\
examples:
  trtune tune plan.toml                               with the screen
  trtune tune plan.toml --headless                    over SSH: close the terminal, the work goes on
  trtune tune plan.toml --set search.trials=12        every field of a plan can be set like this
  trtune tune --demo --headless --trials 8            the simulated demo
  trtune tune --resume SESSION                        go on where a killed worker was
  trtune tune --resume SESSION --trials 40            go on after the end, with a larger budget
  trtune tune --from SESSION                          the same plan again, compared with the first time
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    from trtune.cli._common import add_output_flags
    from trtune.cli._goals import add_goal_flags

    parser.add_argument("plan", nargs="?", type=Path, help="plan file (TOML); see docs/plan.md")
    parser.add_argument("--demo", action="store_true", help="take the demo's plan: a simulated server")
    parser.add_argument(
        "--from", dest="earlier", metavar="SESSION", help="run the plan of a session again, and compare"
    )
    parser.add_argument(
        "--trust", action="store_true", help="with --from and --resume: start what a session from elsewhere says"
    )
    parser.add_argument("--resume", metavar="SESSION", help="go on with a session whose worker is gone")
    parser.add_argument(
        "--session", metavar="FILE", help="where to record (default: a new file in the sessions folder)"
    )
    parser.add_argument("--trials", type=int, help="search.trials: trials at most, the baseline included")
    parser.add_argument("--time", type=float, metavar="SECONDS", help="search.time_s: seconds at most")
    parser.add_argument("--model", help="engine.model: model name or folder")
    parser.add_argument(
        "--starting-points",
        type=Path,
        metavar="DIR",
        help="begin with published configurations: a checkout of TensorRT-LLM, or its examples/configs",
    )
    parser.add_argument(
        "--starting-gpu", default="", metavar="NAME", help="whose configurations (default: this host's GPU)"
    )
    parser.add_argument("--money", type=float, help="search.money: money at most; needs price.gpu_hour")
    parser.add_argument(
        "--warm-start", nargs="+", default=[], metavar="FILE", help="older sessions whose results are hints"
    )
    parser.add_argument(
        "--continue",
        dest="go_on",
        action="store_true",
        help="go on with the session that --session names if it is there, begin it else: for jobs that are started again",
    )
    parser.add_argument(
        "--side-by-side", type=int, metavar="N", help="fleet.side_by_side: trials at a time, each on GPUs of its own"
    )
    parser.add_argument("--cluster", metavar="ADDRESS", help="fleet.cluster: Ray cluster whose nodes run the trials")
    parser.add_argument("--wait-nodes", type=int, metavar="N", help="fleet.wait_nodes: nodes to wait for at the start")
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="keep the study in PostgreSQL (postgresql://USER@HOST/DATABASE); a password is better given in PGPASSWORD,"
        " or the whole address in TRTUNE_STORAGE",
    )
    add_goal_flags(parser)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="set any field of the plan")
    add_output_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from trtune.cli._common import begin_and_show
    from trtune.errors import UsageError

    _pass_on_storage(args.storage)
    if args.resume:
        _refuse_another_search(args)
        return _resume(args, trusted=args.trust)
    if args.go_on:
        if not args.session:
            raise UsageError("--continue needs --session FILE: the session to go on with, or to begin")
        if Path(args.session).exists():
            args.resume = args.session
            return _resume(args, trusted=True)  # a job that is started again may be on another host
    if args.earlier:
        if args.plan or args.demo:
            raise UsageError("--from takes the plan of the session: give no other plan")
        return _repeat(args)
    if bool(args.plan) == args.demo:
        raise UsageError("give a plan file, or --demo; 'trtune tune --help' has examples")
    return begin_and_show(plan_from(args), args)


def plan_from(args: argparse.Namespace, tables: dict[str, Any] | None = None) -> Any:
    """The plan that file and flags describe together.

    Args:
        args: The flags.
        tables: What to begin with instead of the file or the demo.
    """
    from trtune.cli._common import require_session
    from trtune.cli._goals import goal_fields
    from trtune.planfile import make_plan, put, read_tables, set_fields
    from trtune.plans import demo_tables

    where = args.earlier or ("demo" if args.demo else str(args.plan))
    if tables is None:
        tables = demo_tables() if args.demo else read_tables(args.plan)
    if args.model is not None:
        put(tables, "engine.model", args.model)
    for field, value in _how_long_and_where(args).items():
        put(tables, field, value)
    _put_goals(tables, goal_fields(args))
    if args.warm_start:
        put(tables, "search.warm_start", [str(require_session(told)) for told in args.warm_start])
    set_fields(tables, args.set)
    plan = make_plan(tables, where)
    return plan if args.starting_points is None else _with_starting_points(plan, args)


def _how_long_and_where(args: argparse.Namespace) -> dict[str, object]:
    """Fields that the flags give, of those that a session that is gone on with may change too."""
    told = {
        "search.trials": args.trials,
        "search.time_s": args.time,
        "search.money": args.money,
        "fleet.side_by_side": args.side_by_side,
        "fleet.cluster": args.cluster,
        "fleet.wait_nodes": args.wait_nodes,
    }
    return {field: value for field, value in told.items() if value is not None}


def _refuse_another_search(args: argparse.Namespace) -> None:
    """With --resume, what would make it another search is refused and not passed over."""
    from trtune.errors import UsageError

    if args.plan or args.demo:
        raise UsageError("--resume goes on with the plan in the session: give no other plan")
    flags = ("model", "preset", "objective", "slo", "warm_start", "starting_points", "set")
    given = [f"--{flag.replace('_', '-')}" for flag in flags if getattr(args, flag)]
    if given:
        raise UsageError(
            f"--resume goes on with the plan in the session, so {', '.join(given)} cannot be given: ranges and objective"
            " are changed on the screen, the objective with 'trtune sessions rescore' too"
        )


def _pass_on_storage(address: str | None) -> None:
    """Give the address to the worker through the environment: its arguments are seen by everybody on the host."""
    if address is None:
        return
    from trtune.errors import UsageError
    from tuner.fleet.storage import VARIABLE, BadStorage, storage_url

    try:
        storage_url(address)
    except BadStorage as error:
        raise UsageError(str(error)) from error
    os.environ[VARIABLE] = address


def _with_starting_points(plan: Any, args: argparse.Namespace) -> Any:
    from engines.registry import get_engine
    from trtune.starting_points import with_starting_points

    plan, words = with_starting_points(plan, get_engine(plan.engine.name), args.starting_points, args.starting_gpu)
    for word in words:
        print(word, file=sys.stderr)
    return plan


def _put_goals(tables: dict[str, Any], wish: dict[str, Any]) -> None:
    """Put what flags ask for in the place of the plan's objective; limits are added to the plan's own."""
    slos = wish.pop("slos", [])
    several = wish.pop("objectives", None)
    own = tables.get("objective", {})
    if not isinstance(own, dict) or not isinstance(own.get("slos", []), list):
        return  # for the plan to refuse
    if wish or several:
        tables.pop("objectives", None)
        kept = {} if "preset" in wish else {name: own[name] for name in ("slos",) if name in own}
        tables["objective"] = own = {**kept, **wish}
    if several:
        tables["objectives"] = several
    if slos:
        tables["objective"] = {**own, "slos": [*own.get("slos", []), *slos]}


def _repeat(args: argparse.Namespace) -> int:
    from trtune.cli._common import begin_session_for, require_session, show
    from trtune.repeat import read_earlier, repeat_lines

    path = require_session(args.earlier)
    earlier = read_earlier(path, trusted=args.trust)
    session = begin_session_for(plan_from(args, earlier.tables), args, {"repeats": earlier.facts})
    status = show(session, args, live=True)
    if not args.json:
        for line in repeat_lines(path, session):
            print(line)
    return status


def _resume(args: argparse.Namespace, *, trusted: bool) -> int:
    from sessions.errors import SessionBusy
    from sessions.holding import is_written
    from sessions.reader import SessionReader
    from trtune.cli._common import begin_work, require_session, show
    from trtune.repeat import refuse_other_hosts

    path = require_session(args.resume, to_write=True)
    if is_written(path):
        raise SessionBusy(f"{path} is being worked on already; look at it with: trtune attach {path}")
    if not trusted:
        with SessionReader(path) as reader:
            refuse_other_hosts(path, reader.meta())
    if changes := _how_long_and_where(args):
        from trtune.resuming import change_stored_plan

        change_stored_plan(path, changes)
    begin_work(path, args)
    return show(path, args, live=True)
