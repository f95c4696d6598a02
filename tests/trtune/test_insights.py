"""What a search found out is told in lines: the limit, the knobs, the refused."""

from __future__ import annotations

from sessions.records import Trial
from trtune.insights import insight_facts, insight_lines

BEST = Trial(3, "search", "complete", {}, start_ns=0, end_ns=1, score=1.0, feasible=True)
META = {
    "diagnosis": {
        "3": {"kind": "batch_limit", "text": "limited by batch size: 64 of 64 slots taken", "knob": "max_batch_size"}
    },
    "importance": {"shares": {"max_batch_size": 0.8, "max_num_tokens": 0.195, "other": 0.005}},
    "quality": {"5": {"passed": False, "text": "failed: 70 % of 900 tokens"}, "6": {"passed": True, "text": "passed"}},
    "objectives": [{}, {}],
    "pareto": {"front": [{"trial": 3}, {"trial": 1}]},
    "verdict": {"winner": 4},
}


def test_everything_that_is_known_is_told() -> None:
    assert insight_lines(META, BEST) == [
        "what limits it: limited by batch size: 64 of 64 slots taken; max_batch_size would move it",
        "knobs that matter: max_batch_size 80%, max_num_tokens 20%",
        "on the Pareto front: trials 1, 3",
        "refused by the quality gate: trial 5: failed: 70 % of 900 tokens",
        "in the repeated runs trial 4 did better: take that one",
    ]
    assert insight_facts(META, BEST)["diagnosis"]["kind"] == "batch_limit"


def test_a_session_that_tells_nothing_gives_no_lines() -> None:
    assert insight_lines({}, None) == []
    assert insight_lines({"importance": None, "verdict": None}, BEST) == []
