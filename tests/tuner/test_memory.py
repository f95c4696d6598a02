"""Failure memory: what asks for at least as much as what failed is not started."""

from __future__ import annotations

from tuner.search.memory import FailureMemory


def test_asking_for_as_much_or_more_of_the_accused_knob_is_ruled_out() -> None:
    memory = FailureMemory()
    memory.add({"batch": 64, "tokens": 4096}, ("batch",), "no memory for the KV cache")

    assert memory.rejection({"batch": 128, "tokens": 4096}) is not None
    assert "no memory" in str(memory.rejection({"batch": 64, "tokens": 4096}))
    assert memory.rejection({"batch": 32, "tokens": 4096}) is None


def test_a_difference_elsewhere_makes_it_another_question() -> None:
    memory = FailureMemory()
    memory.add({"batch": 64, "tokens": 4096}, ("batch",), "x")

    assert memory.rejection({"batch": 128, "tokens": 2048}) is None
    assert memory.rejection({"batch": 128}) is None


def test_without_an_accused_knob_only_the_same_configuration_is_ruled_out() -> None:
    memory = FailureMemory()
    memory.add({"batch": 64}, (), "hung")

    assert memory.rejection({"batch": 64}) is not None
    assert memory.rejection({"batch": 128}) is None


def test_a_share_that_fails_both_ways_rules_out_only_itself() -> None:
    memory = FailureMemory(unordered=frozenset({"share"}))
    memory.add({"share": 0.2}, ("share",), "nothing is left for the KV cache")

    assert memory.rejection({"share": 0.9}) is None
    assert memory.rejection({"share": 0.2}) is not None


def test_switches_are_not_ordered() -> None:
    memory = FailureMemory()
    memory.add({"chunked": False}, ("chunked",), "x")

    assert memory.rejection({"chunked": True}) is None
