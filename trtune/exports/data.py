"""A trial as JSON for other programs; the tables are those of `trtune.exports.tables`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from trtune.exports.winner import take_trial
from trtune.follow import trial_facts

if TYPE_CHECKING:
    from sessions.reader import SessionReader


def trial_json(reader: SessionReader, number: int | None) -> str:
    """The trial with everything known about it."""
    trial = take_trial(reader, number)
    facts = {**trial_facts(trial), "launch": dict(trial.launch)}
    return orjson.dumps(facts, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
