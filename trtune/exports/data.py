"""A session's data for other programs: the trial as JSON, trials and requests as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from sessions.requests import RequestStatus
from trtune.exports.winner import take_trial
from trtune.follow import trial_facts

if TYPE_CHECKING:
    from sessions.reader import SessionReader


def trial_json(reader: SessionReader, number: int | None) -> str:
    """The trial with everything known about it."""
    trial = take_trial(reader, number)
    facts = {**trial_facts(trial), "launch": dict(trial.launch)}
    return orjson.dumps(facts, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def trials_csv(reader: SessionReader) -> str:
    """All trials, a row each."""
    import pandas as pd  # half a second: only the tables need it

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


def requests_csv(reader: SessionReader, number: int | None) -> str:
    """All requests of the trial, a row each."""
    import pandas as pd  # half a second: only the tables need it

    trial = take_trial(reader, number)
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
