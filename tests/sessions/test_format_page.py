"""docs/session-format.md names every word that a session holds."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from sessions.records import COMMAND_KINDS, FINISHED_STATES, PHASES
from sessions.verify import LEVEL_STATES
from trtune import open_session

DATA = Path(__file__).parents[1] / "data"
PAGE = (Path(__file__).parents[2] / "docs" / "session-format.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([\w-]+)`", PAGE))


@pytest.mark.parametrize("words", [COMMAND_KINDS, PHASES, FINISHED_STATES, LEVEL_STATES])
def test_the_page_names_every_word(words: tuple[str, ...]) -> None:
    assert not {*words} - NAMED


@pytest.mark.parametrize("name", ["demo.trtune", "demo-2.trtune.xz", "gpu/vllm-8b-h100.trtune.xz"])
def test_the_page_names_what_a_recorded_search_holds(name: str) -> None:
    with closing(open_session(DATA / name)) as opened:
        session = opened.reader
        trials, events, phases = session.trials(), session.events(), session.phases()
        keys = {*session.meta()}

    assert min(map(len, (keys, trials, events, phases))) > 0
    assert not keys - NAMED
    assert not {trial.kind for trial in trials} - NAMED
    assert not {trial.state for trial in trials} - NAMED
    assert not {event.kind for event in events} - NAMED
    assert not {phase.name for phase in phases} - NAMED
