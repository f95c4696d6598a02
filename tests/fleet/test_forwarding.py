"""A trial told from another host stands in the session as if it had run here, at the right times."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions.clock import SessionClock
from sessions.columns import COLUMNS
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from sessions.requests import ABSENT, RequestTable
from tests.sessions.request_rows import assert_same, row
from tuner.fleet.forwarding import Call, ClockLink, ForwardingRecorder, Merge

MINUTE_NS = 60_000_000_000


@pytest.fixture
def session(tmp_path: Path) -> Recorder:
    return Recorder.create(tmp_path / "one.trtune", {})


def test_a_forwarded_trial_is_whole_in_the_session(session: Recorder, tmp_path: Path) -> None:
    number = session.start_trial("search", {"max_batch_size": 8})
    # The other host's clock is a minute ahead.
    there = SessionClock(session.clock.origin_utc_ns, session.clock.base_monotonic_ns - MINUTE_NS)
    remote = ForwardingRecorder.begin(tmp_path / "there.trtune", number, there)
    here_ns = session.clock.now()
    table = RequestTable.from_rows([row(), row(index=1, first_ns=ABSENT, last_ns=ABSENT, chunk_us=[], chunk_tokens=[])])

    assert remote.start_trial("search", {}) == number
    source = remote.add_source("load", "lane1/load", {"workload": "chat"})
    remote.start_phase(number, "start")
    level = remote.start_level(number, "concurrency", 16)
    remote.start_phase(number, "measure", level)
    remote.add_sample(source, there.now(), [0.0] * len(COLUMNS["load"]))
    remote.add_requests(level, table)
    remote.log("server", "info", "up")
    remote.end_level(level, "valid", window_ns=(MINUTE_NS, MINUTE_NS + 5), result={"ttft": {"p50": 3.0}}, notes=["n"])
    remote.update_trial(number, ready_s=2.5)
    remote.end_trial(number, "complete", score=7.0, feasible=True)
    calls = pickle.loads(pickle.dumps(remote.take()))  # as they travel
    Merge(session, -MINUTE_NS, number).apply(calls)
    session.flush()

    with SessionReader(session.path) as reader:
        (trial,) = reader.trials()
        (told,) = reader.levels(number)
        (source_told,) = reader.sources("load")
        assert (trial.state, trial.score, trial.ready_s) == ("complete", 7.0, 2.5)
        assert (told.value, told.state, told.window_ns) == (16, "valid", (0, 5))
        assert source_told.name == "lane1/load"
        assert [phase.name for phase in reader.phases(number)] == ["start", "measure"]
        assert here_ns <= told.start_ns <= session.clock.now()
        assert_same(reader.requests(told.id), table.shifted(-MINUTE_NS))
        assert reader.logs()[0].text == "up"
    session.close()


def test_times_that_are_absent_stay_absent_when_moved() -> None:
    table = RequestTable.from_rows([row(first_ns=ABSENT, last_ns=ABSENT, chunk_us=[], chunk_tokens=[])])

    moved = table.shifted(1_000)

    assert (int(moved.first_ns[0]), int(moved.sent_ns[0])) == (ABSENT, 3_000)


@pytest.mark.parametrize(
    "call",
    [
        Call(0, "close", {}),
        Call(0, "set_meta", {"values": {"plan": {}}}),
        Call(0, "end_trial", {"number": 99, "state": "complete"}),
        Call(0, "start_phase", {"trial": 99, "name": "start", "level": None}),
    ],
)
def test_another_host_can_touch_nothing_but_its_own_trial(session: Recorder, call: Call) -> None:
    number = session.start_trial("search", {})

    with pytest.raises(ValueError, match="host"):
        Merge(session, 0, number).apply([call])
    session.close()


@given(
    offset_ns=st.integers(-(10**15), 10**15),
    delays=st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)), min_size=1, max_size=8),
)
def test_the_offset_of_clocks_is_right_to_within_what_is_said(offset_ns: int, delays: list[tuple[int, int]]) -> None:
    exchanges, now_ns = [], 0
    for there_ns, back_ns in delays:
        exchanges.append((now_ns, now_ns + there_ns - offset_ns, now_ns + there_ns + back_ns))
        now_ns += there_ns + back_ns + 1

    link = ClockLink.best_of(exchanges)

    assert abs(link.offset_ns - offset_ns) <= link.error_ns
    assert link.error_ns <= min(sum(each) for each in delays) / 2 + 1
