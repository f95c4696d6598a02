"""What can be copied from the screen: values and commands, as they are typed elsewhere."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import orjson

from sessions.text import clean_line
from tui.diagnosis import diagnose
from tui.formatting import number
from tui.trial_rows import launch_command

if TYPE_CHECKING:
    from tui.snapshot import Snapshot

MAX_COPIED = 74_000
"""Terminals take about 100,000 characters of base64 in one OSC 52."""


def copyable(snapshot: Snapshot) -> list[tuple[str, str]]:
    """What can be copied now: a name and the text."""
    path = str(snapshot.facts.path)
    found = [("path of the session", path)]
    found.append(("command to come back", shlex.join(["trtune", "attach" if snapshot.state.live else "replay", path])))
    diagnosis = diagnose(snapshot)
    found.append(("what limits now", clean_line(f"{diagnosis.limit}: {diagnosis.evidence}".lstrip(": "))))
    trial = snapshot.selected
    if trial is None:
        return found
    name = f"trial {trial.number}"
    if trial.score is not None:
        score = f"{number(trial.score, 6)} {snapshot.facts.objective.unit}".rstrip()
        found.append((f"score of {name}", score))
    found.append((f"settings of {name} (JSON)", orjson.dumps(trial.params, option=orjson.OPT_INDENT_2).decode()))
    if command := launch_command(trial.launch):
        found.append((f"start command of {name}", command))
    files = trial.launch.get("files")
    if isinstance(files, dict):
        found += [(f"{clean_line(str(file))} of {name}", str(told)) for file, told in files.items()]
    if trial.failure is not None and trial.failure.line:
        found.append((f"failure line of {name}", trial.failure.line))
    return [(label, told) for label, told in found if told and len(told) <= MAX_COPIED]
