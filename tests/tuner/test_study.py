"""The search: baseline first, no repeats, failures teach, and nothing is forgotten by a kill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from engines.knob import Value
from sessions.recorder import Recorder
from tests.tuner.knobs import KNOBS
from tuner.plan import KnobRange, KnobValue
from tuner.search.exchange import Result
from tuner.search.objective import Objective
from tuner.search.search import Proposal, Search
from tuner.search.study import Past, StudySearch

OBJECTIVE = Objective("output_token_throughput", "avg", "maximize")
Wishes = dict[str, KnobRange | tuple[KnobValue, ...] | KnobValue]
SMALL: Wishes = {"batch": (8, 16, 32), "chunked": (False, True)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.trtune"
    Recorder.create(path, {}).close()
    return path


def open_search(path: Path, wanted: Wishes | None = None, purpose: str = "", **options: object) -> StudySearch:
    return StudySearch(
        path,
        lambda storage, name: Search(
            KNOBS,
            OBJECTIVE,
            wanted=wanted or SMALL,
            seed=1,
            storage=storage,
            study_name=name,
            **options,  # type: ignore[arg-type]
        ),
        purpose,
    )


def good(value: float) -> Result:
    return Result(value)


def ask(search: StudySearch) -> Proposal:
    proposal = search.ask()
    assert proposal is not None
    return proposal


def test_the_baseline_comes_first_and_the_starting_points_next(path: Path) -> None:
    points = [{"batch": 16, "chunked": True}, {"batch": 32, "chunked": True}, {"batch": 8, "chunked": True}]
    search = open_search(path, starting_points=points)

    first, *others = [ask(search) for _ in range(4)]

    assert (first.kind, first.params) == ("baseline", {})
    assert [(other.kind, other.params) for other in others] == [("search", point) for point in points]
    search.close()


def test_advice_is_moved_into_the_ranges_so_that_it_works(path: Path) -> None:
    def conflicts(params: Mapping[str, Value]) -> str | None:
        return "too much at once" if params.get("chunked") and int(str(params.get("batch", 8))) > 16 else None

    search = open_search(path, advice=[{"batch": 20, "chunked": True}], conflicts=conflicts)

    search.tell(ask(search), good(1))

    assert ask(search).params == {"batch": 16, "chunked": True}
    search.close()


def test_every_configuration_is_tried_once_and_then_the_space_is_exhausted(path: Path) -> None:
    search = open_search(path)
    seen = []
    while (proposal := search.ask()) is not None:
        seen.append(proposal)
        search.tell(proposal, good(len(seen)))

    tried = [tuple(sorted(proposal.params.items())) for proposal in seen if proposal.kind != "baseline"]
    assert len(set(tried)) == len(tried) == 5, "the baseline is the sixth"
    search.close()


def test_what_conflicts_is_never_proposed(path: Path) -> None:
    def conflicts(params: Mapping[str, Value]) -> str | None:
        return "chunked is broken" if params.get("chunked") else None

    search = open_search(path, conflicts=conflicts)
    proposals = []
    while (proposal := search.ask()) is not None:
        proposals.append(proposal)
        search.tell(proposal, good(1))

    assert len(proposals) > 1
    assert not any(proposal.params.get("chunked") for proposal in proposals)
    assert search.enqueue({"batch": 8, "chunked": True}) == "chunked is broken"
    search.close()


def test_a_failure_rules_out_what_asks_for_more(path: Path) -> None:
    search = open_search(path, starting_points=[{"batch": 16, "chunked": False}], baseline={"chunked": True})
    search.tell(ask(search), good(1))
    search.tell(ask(search), Result.failed("no memory", ("batch",)))

    rest = []
    while (proposal := search.ask()) is not None:
        rest.append(proposal.params)
        search.tell(proposal, good(1))

    assert {"batch": 32, "chunked": False} not in rest
    assert {"batch": 8, "chunked": False} in rest
    search.close()


def test_a_passing_trouble_teaches_nothing_and_may_be_proposed_again(path: Path) -> None:
    search = open_search(path, {"chunked": (False, True)}, baseline={"chunked": False})
    search.tell(ask(search), good(1))
    flaky = ask(search)
    search.tell(flaky, Result.failed("port in use", infeasible=False))

    assert ask(search).params == flaky.params
    search.close()


def test_an_operators_configuration_comes_next_even_if_tried_before(path: Path) -> None:
    search = open_search(path, starting_points=[{"batch": 32, "chunked": False}])
    search.tell(ask(search), good(1))

    assert search.enqueue({"batch": 16, "chunked": True}) is None
    proposal = ask(search)
    assert (proposal.kind, proposal.params) == ("enqueued", {"batch": 16, "chunked": True})
    assert search.enqueue({"batch": 5}) == "a value lies outside the range that is searched"
    assert str(search.enqueue({"bach": 16})).startswith("there is no knob bach; searched are: batch")
    search.close()


def test_a_resumed_search_runs_again_only_what_was_not_finished(path: Path) -> None:
    search = open_search(path)
    finished = []
    for number in range(3):
        proposal = ask(search)
        search.link(proposal, number)
        search.tell(proposal, good(number))
        finished.append(proposal.params)
    recorded, cut_off = ask(search), ask(search)
    search.link(recorded, 3)  # ended in the session, but the worker was killed before it told the study
    search.link(cut_off, 4)
    search.close()

    resumed = open_search(path)
    resumed.recover([Past(3, "search", recorded.params, Result(5.0))])

    assert ask(resumed).params == cut_off.params
    rest = []
    while (later := resumed.ask()) is not None:
        rest.append(later.params)
        resumed.tell(later, good(1))
    assert not [params for params in rest if params in [*finished[1:], recorded.params]]
    resumed.close()


def test_failures_are_remembered_after_a_resume(path: Path) -> None:
    search = open_search(path)
    search.tell(ask(search), good(1))
    search.close()

    resumed = open_search(path)
    failure = Result.failed("no memory", ("batch",))
    resumed.recover([Past(1, "search", {"batch": 8, "chunked": False}, failure)])
    rest = []
    while (proposal := resumed.ask()) is not None:
        rest.append(proposal.params)
        resumed.tell(proposal, good(1))

    assert [params for params in rest if params["chunked"] is False] == []
    resumed.close()


def test_the_search_finds_a_clear_optimum(path: Path) -> None:
    search = open_search(path, {"batch": KnobRange(low=1, high=256, log=True), "chunked": (False, True)})
    best = 0.0
    for _ in range(30):
        proposal = ask(search)
        batch = float(proposal.params.get("batch", 8) or 8)
        value = 100 - abs(batch - 64) + (10 if proposal.params.get("chunked") else 0)
        best = max(best, value)
        search.tell(proposal, good(value))

    assert best > 95
    search.close()


def test_what_is_queued_by_hand_is_told_and_can_be_taken_back(path: Path) -> None:
    search = open_search(path)
    search.tell(ask(search), good(1))
    search.enqueue({"batch": 16, "chunked": True})
    search.enqueue({"batch": 32, "chunked": False})

    assert [each.params["batch"] for each in search.queue()] == [16, 32]
    assert search.dequeue(5) == "the queue has 2 configurations: there is no place 5"
    assert search.dequeue(0) is None
    assert ask(search).params == {"batch": 32, "chunked": False}
    search.close()


def test_another_purpose_begins_another_study_that_knows_what_was_measured(path: Path) -> None:
    search = open_search(path, purpose="throughput")
    search.tell(ask(search), good(1))
    search.close()

    measured = [Past(0, "baseline", {}, good(10)), Past(1, "search", {"batch": 16, "chunked": True}, good(5))]
    outside = Past(2, "search", {"batch": 64, "chunked": True}, good(99))
    changed = open_search(path, purpose="latency")
    changed.recover([*measured, outside])

    assert ask(changed).kind == "search", "the baseline is not run again"
    best = changed.best()
    assert best is not None
    assert best.params in ({}, {"batch": 8, "chunked": False})
    assert not changed.covers(outside.params), "what lies outside the ranges is not recommended"
    assert changed.best_trial() == 0
    changed.close()


def test_a_study_that_is_taken_up_again_has_the_queue_of_now(path: Path) -> None:
    first = open_search(path, purpose="tokens")
    first.enqueue({"batch": 32})
    first.close()
    again = open_search(path, purpose="tokens")

    refused = again.replace_queue([{"batch": 16}, {"batch": 5}])

    assert refused == ["a value lies outside the range that is searched"]
    assert [each.params["batch"] for each in again.queue()] == [16]
    again.close()


def test_what_runs_while_a_study_is_left_and_taken_up_again_is_not_begun_anew(path: Path) -> None:
    first = open_search(path, purpose="tokens")
    first.tell(ask(first), good(1))
    running = ask(first)
    first.link(running, 1)
    first.close()
    again = open_search(path, purpose="tokens")
    again.recover([Past(0, "baseline", {}, good(1))], under_way={1})

    following = ask(again)
    again.adopt(Past(1, "search", running.params, good(7)))

    assert following.params != running.params
    trials = again.search.study.get_trials(deepcopy=False)
    assert [trial.value for trial in trials if trial.user_attrs.get("trial") == 1] == [trials[running.id].value]
    assert trials[running.id].state.is_finished()
    again.close()


def test_a_value_for_a_knob_that_is_held_is_refused_and_not_passed_over(path: Path) -> None:
    search = open_search(path, {"batch": (8, 16, 32), "chunked": True})

    assert search.enqueue({"batch": 16, "chunked": False}) == "chunked is held at True: give it a range first"
    assert search.enqueue({"batch": 16, "chunked": True}) is None
    search.close()


def test_what_was_begun_and_not_handed_out_comes_again(path: Path) -> None:
    search = open_search(path, starting_points=[{"batch": 32, "chunked": True}])
    begun = search.search.study.ask()  # killed, or cut off from its database, before the proposal was complete
    search.close()

    again = open_search(path, starting_points=[{"batch": 32, "chunked": True}])
    again.recover([])
    first, second = ask(again), ask(again)

    assert begun.number == 0
    assert (first.kind, second.kind) == ("baseline", "search")
    assert second.params == {"batch": 32, "chunked": True}
    again.close()


def test_an_ask_that_was_cut_short_loses_nothing_that_was_queued(path: Path) -> None:
    refusing = True

    def conflicts(_: Mapping[str, Value]) -> str | None:
        if refusing:
            raise ConnectionError("gone")
        return None

    search = open_search(path, conflicts=conflicts)
    search.tell(ask(search), good(1))
    search.search.study.enqueue_trial({"batch": 32, "chunked": True}, user_attrs={"kind": "enqueued"})
    with pytest.raises(ConnectionError):
        search.ask()
    refusing = False

    again = ask(search)

    assert (again.kind, again.params) == ("enqueued", {"batch": 32, "chunked": True})
    search.close()
