"""Print the best configuration of a session ready to use, or the session's data."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from sessions.reader import SessionReader
    from sessions.records import Trial

FORMATS = ("config", "command", "json", "trials-csv", "requests-csv")

EPILOG = """\
formats:
  config         the server's configuration file (for TensorRT-LLM: the YAML for trtllm-serve --config)
  command        the command line that was started
  json           the trial with everything known about it
  trials-csv     all trials, a row each
  requests-csv   all requests of the trial, a row each

examples:
  trtune export SESSION --format config > best.yaml
  trtune export SESSION --trial 4 --format json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("session", help="session file, or its name in the sessions folder")
    parser.add_argument("--format", choices=FORMATS, default="config", help="what to print (default: config)")
    parser.add_argument("--trial", type=int, help="which trial (default: the best that meets every SLO)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write to a file that does not exist yet")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from sessions.reader import SessionReader
    from trtune.cli._common import require_session
    from trtune.errors import UsageError

    with SessionReader(require_session(args.session)) as reader:
        text = _text(reader, args.format, args.trial)
    if args.output is None:
        sys.stdout.write(text)
        return 0
    try:
        with args.output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(f"--output {args.output}: exists already; choose another name") from error
    return 0


def _text(reader: SessionReader, format_: str, number: int | None) -> str:
    if format_ == "trials-csv":
        return _trials_csv(reader)
    trial = _trial(reader, number)
    if format_ == "requests-csv":
        return _requests_csv(reader, trial)
    if format_ == "json":
        import orjson

        from trtune.follow import trial_facts

        return (
            orjson.dumps({**trial_facts(trial), "launch": dict(trial.launch)}, option=orjson.OPT_INDENT_2).decode()
            + "\n"
        )
    return _config(trial) if format_ == "config" else _command(trial)


def _trial(reader: SessionReader, number: int | None) -> Trial:
    from sessions.errors import SessionError
    from sessions.summary import summarise_trials

    trials = reader.trials()
    if number is None:
        best = summarise_trials(trials, reader.meta().get("objective", {})).best
        if best is None:
            raise SessionError(
                f"{reader.path}: no trial meets every SLO, so there is no best one; name one with --trial"
            )
        return best
    for trial in trials:
        if trial.number == number:
            return trial
    raise SessionError(f"{reader.path}: there is no trial {number}; there are {len(trials)}, counted from 0")


def _config(trial: Trial) -> str:
    from sessions.errors import SessionError

    files = trial.launch.get("files", {})
    if not files:
        raise SessionError(f"trial {trial.number} was started without a configuration file; try --format command")
    return "".join(str(text) for text in files.values())


def _command(trial: Trial) -> str:
    from sessions.errors import SessionError

    words = [str(word) for word in trial.launch.get("argv", ())]
    if not words:
        raise SessionError(f"trial {trial.number} was not started by trtune, so there is no command")
    return shlex.join(words) + "\n"


def _trials_csv(reader: SessionReader) -> str:
    import pandas as pd

    rows = [
        {
            "number": trial.number,
            "kind": trial.kind,
            "state": trial.state,
            "score": trial.score,
            "feasible": trial.feasible,
            "ready_s": trial.ready_s,
            **{f"params.{name}": value for name, value in trial.params.items()},
            **{f"{metric}.{stat}": value for metric, stats in trial.result.items() for stat, value in stats.items()},
            "failure": trial.failure.text if trial.failure else "",
        }
        for trial in reader.trials()
    ]
    return str(pd.DataFrame(rows).to_csv(index=False))


def _requests_csv(reader: SessionReader, trial: Trial) -> str:
    import pandas as pd

    from sessions.requests import RequestStatus

    frames = []
    for level in reader.levels(trial.number):
        table = reader.requests(level.id)
        frames.append(
            pd.DataFrame(
                {
                    "trial": trial.number,
                    "level": f"{level.kind} {level.value:g}",
                    "index": table.index,
                    "status": [RequestStatus(code).name.lower() for code in table.status],
                    "scheduled_ns": table.scheduled_ns,
                    "sent_ns": table.sent_ns,
                    "first_ns": table.first_ns,
                    "last_ns": table.last_ns,
                    "isl_tokens": table.isl_tokens,
                    "osl_tokens": table.osl_tokens,
                    "client_lag_us": table.lag_first_us,
                }
            )
        )
    return str(pd.concat(frames).to_csv(index=False)) if frames else ""
