"""Which request leaves when: slots, due times, turns."""

from __future__ import annotations

from tuner.load.hotpath.exchange import Item
from tuner.load.hotpath.frames import ITEM_FIELDS
from tuner.load.hotpath.schedule import NEVER, Schedule

START_NS = 1_000_000_000


def item(
    index: int, *, due_ns: int = -1, think_ns: int = 0, session: int = -1, turn: int = 0, more: bool = False
) -> Item:
    return Item(index, ITEM_FIELDS.pack(due_ns, think_ns, -1, session, turn, more) + b"request")


def closed_loop(slots: int, ramp_ns: int = 0) -> Schedule:
    schedule = Schedule(closed_loop=True, slots=slots, ramp_ns=ramp_ns)
    schedule.start(START_NS)
    return schedule


def leaving(schedule: Schedule, now_ns: int) -> list[int]:
    indices = []
    while (found := schedule.next_item(now_ns)) is not None:
        indices.append(found.index)
    return indices


def test_a_closed_loop_fills_its_slots_and_no_more() -> None:
    schedule = closed_loop(2)
    items = [item(index) for index in range(4)]
    for each in items:
        schedule.add(each, START_NS)
    assert leaving(schedule, START_NS) == [0, 1]
    schedule.ended(items[0], START_NS, whole=True)
    assert leaving(schedule, START_NS) == [2]


def test_nothing_leaves_before_the_start() -> None:
    schedule = closed_loop(2)
    schedule.add(item(0), START_NS)
    assert leaving(schedule, START_NS - 1) == []


def test_a_ramp_opens_the_slots_one_after_the_other() -> None:
    schedule = closed_loop(5, ramp_ns=4_000_000_000)
    for index in range(5):
        schedule.add(item(index), START_NS)
    assert leaving(schedule, START_NS) == [0]
    assert leaving(schedule, START_NS + 2_000_000_000) == [1, 2]
    assert leaving(schedule, START_NS + 4_000_000_000) == [3, 4]


def test_an_open_loop_sends_on_schedule_whatever_is_in_flight() -> None:
    schedule = Schedule(closed_loop=False, slots=0, ramp_ns=0)
    early, late = item(0, due_ns=200), item(1, due_ns=100)
    schedule.add(early, 0)
    schedule.start(START_NS)
    schedule.add(late, START_NS)
    assert schedule.next_due_ns(START_NS) == START_NS + 100
    assert leaving(schedule, START_NS + 99) == []
    assert leaving(schedule, START_NS + 200) == [1, 0]
    assert early.scheduled_ns == START_NS + 200
    assert schedule.next_due_ns(START_NS + 200) == NEVER


def test_a_conversation_keeps_its_slot_through_its_think_time() -> None:
    schedule = closed_loop(1)
    first, second, other = item(0, session=7, more=True), item(1, session=7, turn=1, think_ns=500), item(2)
    for each in (first, second, other):
        schedule.add(each, START_NS)
    assert leaving(schedule, START_NS) == [0]
    schedule.ended(first, START_NS + 100, whole=True)
    assert leaving(schedule, START_NS + 599) == []
    assert leaving(schedule, START_NS + 600) == [1]
    schedule.ended(second, START_NS + 700, whole=True)
    assert leaving(schedule, START_NS + 700) == [2]


def test_a_turn_that_the_owner_sends_late_leaves_when_its_think_time_is_over() -> None:
    schedule = closed_loop(1)
    first = item(0, session=7, more=True)
    schedule.add(first, START_NS)
    leaving(schedule, START_NS)
    schedule.ended(first, START_NS + 100, whole=True)
    schedule.add(item(1, session=7, turn=1, think_ns=500), START_NS + 300)
    assert leaving(schedule, START_NS + 599) == []
    assert leaving(schedule, START_NS + 600) == [1]


def test_a_failed_turn_ends_the_conversation_and_frees_the_slot() -> None:
    schedule = closed_loop(1)
    turns = [item(turn, session=7, turn=turn, more=turn < 2) for turn in range(3)]
    for each in (*turns, item(9)):
        schedule.add(each, START_NS)
    leaving(schedule, START_NS)
    schedule.ended(turns[0], START_NS + 1, whole=False)
    assert leaving(schedule, START_NS + 1) == [9]
    assert len(schedule) == 0


def test_an_abandoned_conversation_frees_its_slot() -> None:
    schedule = closed_loop(1)
    first = item(0, session=7, more=True)
    for each in (first, item(9)):
        schedule.add(each, START_NS)
    leaving(schedule, START_NS)
    schedule.ended(first, START_NS + 1, whole=True)
    schedule.abandon(7)
    assert leaving(schedule, START_NS + 1) == [9]


def test_empty_slots_count_as_starvation_until_the_owner_says_that_was_all() -> None:
    schedule = closed_loop(1)
    leaving(schedule, START_NS)
    leaving(schedule, START_NS + 400)
    assert schedule.starved_ns == 400
    schedule.no_more = True
    leaving(schedule, START_NS + 500)
    leaving(schedule, START_NS + 900)
    assert schedule.starved_ns == 500


def test_draining_forgets_what_was_not_sent() -> None:
    schedule = closed_loop(1)
    for index in range(3):
        schedule.add(item(index), START_NS)
    leaving(schedule, START_NS)
    schedule.drain()
    assert len(schedule) == 0
    assert leaving(schedule, START_NS + 1) == []
