"""Score the trials of a session under another objective or other limits, from their raw requests: nothing runs again."""

from __future__ import annotations

import argparse
from typing import Any

EPILOG = """\
examples:
  trtune sessions rescore run.trtune --slo ttft:p99:<=:300
  trtune sessions rescore run.trtune --objective energy_per_output_token
  trtune sessions rescore run.trtune --preset interactive
  trtune tune --resume run.trtune                      go on searching for the new objective

A session that is being worked on is asked to change its objective, and goes on for the new one at once.
"""


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare `trtune sessions rescore`."""
    from trtune.cli._goals import add_goal_flags

    parser = commands.add_parser(
        "rescore",
        help="score its trials under another objective, without running anything",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("session", help="the session file, or its name in the sessions folder")
    add_goal_flags(parser)
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="the new ranking as one JSON object"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    import orjson

    from sessions.reader import SessionReader
    from trtune.cli._common import require_session
    from trtune.cli._goals import goal_fields
    from trtune.errors import UsageError
    from trtune.follow import params_text
    from trtune.rescore import change_objective

    wish = goal_fields(args)
    if not wish:
        raise UsageError("say what to score by: --objective, --slo or --preset")
    path = require_session(args.session, to_write=True)
    change_objective(path, wish)
    with SessionReader(path) as reader:
        objective, trials = reader.meta()["objective"], reader.trials()
    ranked = sorted(
        (trial for trial in trials if trial.score is not None),
        key=lambda trial: (not trial.feasible, _order(trial.score, objective)),
    )
    if args.json:
        facts = [
            {"number": each.number, "score": each.score, "feasible": each.feasible, "params": each.params}
            for each in ranked
        ]
        print(orjson.dumps({"objective": objective, "trials": facts}).decode())
        return 0
    print(objective["label"])
    for trial in ranked:
        broken = "" if trial.feasible else "  (breaks an SLO)"
        print(f"  trial {trial.number:3}  {trial.score:.5g} {objective['unit']}{broken}  {params_text(trial.params)}")
    return 0


def _order(score: float | None, objective: dict[str, Any]) -> float:
    value = score or 0.0
    return value if objective.get("direction") == "minimize" else -value
