"""What a search found out beside the best configuration, for a person and as JSON: the limit, the knobs that matter, refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessions.records import Trial

_MOST_KNOBS = 4
_LEAST_SHARE = 0.01


def insight_facts(meta: Mapping[str, Any], best: Trial | None) -> dict[str, Any]:
    """The same for JSON output."""
    diagnosis = _table(meta.get("diagnosis"))
    return {
        "diagnosis": None if best is None else diagnosis.get(str(best.number)),
        "importance": meta.get("importance"),
        "pareto": meta.get("pareto"),
        "quality": meta.get("quality"),
        "budget": meta.get("budget"),
    }


def insight_lines(meta: Mapping[str, Any], best: Trial | None) -> list[str]:
    """Lines for a person; nothing where nothing is known."""
    lines: list[str] = []
    told = _table(_table(meta.get("diagnosis")).get(str(best.number))) if best is not None else {}
    if told:
        knob = f"; {told['knob']} would move it" if told.get("knob") else ""
        lines.append(f"what limits it: {told.get('text', '')}{knob}")
    shares = _table(_table(meta.get("importance")).get("shares"))
    named = [f"{name} {share:.0%}" for name, share in shares.items() if share >= _LEAST_SHARE][:_MOST_KNOBS]
    if named:
        lines.append(f"knobs that matter: {', '.join(named)}")
    front = _table(meta.get("pareto")).get("front") or ()
    if meta.get("objectives") and front:
        numbers = sorted({int(point["trial"]) for point in front})
        lines.append(f"on the Pareto front: trials {', '.join(map(str, numbers))}")
    for number, verdict in _table(meta.get("quality")).items():
        if not verdict.get("passed"):
            lines.append(f"refused by the quality gate: trial {number}: {verdict.get('text', '')}")
    winner = _table(meta.get("verdict")).get("winner")
    if best is not None and winner is not None and winner != best.number:
        lines.append(f"in the repeated runs trial {winner} did better: take that one")
    return lines


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
