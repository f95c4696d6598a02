"""Objectives by name. Loads nothing else, so that a screen can offer them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class PresetGoal:
    """What a preset stands for.

    Attributes:
        metric: What counts.
        stat: Statistic of it.
        slos: Limits that go with it; one on the same metric and statistic takes the place of the preset's.
        help: One line.
    """

    metric: str
    stat: str
    slos: tuple[str, ...]
    help: str


PRESETS: Final[Mapping[str, PresetGoal]] = {
    "throughput": PresetGoal(
        "output_token_throughput", "avg", ("error_ratio:avg:<=:0.01",), "the most output tokens per second"
    ),
    "latency": PresetGoal("e2e", "p99", ("error_ratio:avg:<=:0.01",), "the shortest answers, from sending to the end"),
    "interactive": PresetGoal(
        "output_token_throughput",
        "avg",
        ("ttft:p99:<=:1000", "tpot:p99:<=:50", "error_ratio:avg:<=:0.01"),
        "the most output tokens per second while a reader waits at most 1 s and then reads 20 tokens/s or faster",
    ),
    "cost": PresetGoal(
        "cost_per_million_output_tokens",
        "avg",
        ("error_ratio:avg:<=:0.01",),
        "the cheapest tokens; needs price.gpu_hour",
    ),
    "energy": PresetGoal(
        "energy_per_output_token", "avg", ("error_ratio:avg:<=:0.01",), "the fewest joules a token; needs GPU samples"
    ),
}
"""The limits are starting points for a plan of one's own: a few failures break an objective silently, so all of them have one."""
