"""Reads the facts a session states about itself; whatever a stranger's file says, the result is harmless values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sessions.text import clean_line
from tui.snapshot import KnobFact, ObjectiveFact, SessionFacts, SloFact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_TEXT = 400

UNITS = {
    "output_token_throughput": "tokens/s",
    "total_token_throughput": "tokens/s",
    "request_throughput": "req/s",
    "goodput": "req/s",
    "ttft": "ms",
    "itl": "ms",
    "tpot": "ms",
    "e2e": "ms",
}
"""Units of the metrics that are searched for, for a session that does not name them."""


def session_facts(path: Path, meta: Mapping[str, Any]) -> SessionFacts:
    """The facts of a session from its `meta` table; what is missing or of the wrong type is left empty."""
    engine = _table(meta.get("engine"))
    budget = _table(meta.get("budget"))
    trials = _number(budget.get("trials"))
    origin = meta.get("origin_utc_ns")
    return SessionFacts(
        path=path,
        kind=_text(meta.get("kind")),
        name=_text(meta.get("name")),
        engine=_text(engine.get("title")) or _text(engine.get("name")),
        model=_text(engine.get("model")),
        url=_text(engine.get("url")),
        simulated=engine.get("simulated") is True,
        workload=_text(_table(meta.get("workload")).get("label")),
        objective=_objective(_table(meta.get("objective"))),
        knobs=tuple(_knob(_table(entry)) for entry in _list(meta.get("knobs"))),
        budget_trials=None if trials is None else int(trials),
        budget_s=_number(budget.get("time_s")),
        verdict=_text(_table(meta.get("verdict")).get("text")),
        gpu_note=_text(meta.get("gpu_note")),
        version=_text(meta.get("trtune_version")),
        origin_utc_ns=origin if isinstance(origin, int) and not isinstance(origin, bool) else 0,
    )


def _objective(entry: Mapping[str, Any]) -> ObjectiveFact:
    metric = _text(entry.get("metric"))
    return ObjectiveFact(
        label=_text(entry.get("label")),
        metric=metric,
        stat=_text(entry.get("stat")),
        maximize=entry.get("direction") != "minimize",
        unit=_text(entry.get("unit")) or UNITS.get(metric, ""),
        slos=tuple(slo for slo in map(_slo, _list(entry.get("slos"))) if slo is not None),
    )


def _slo(entry: object) -> SloFact | None:
    table = _table(entry)
    value = _number(table.get("value"))
    if value is None:
        return None
    metric, stat, op = _text(table.get("metric")), _text(table.get("stat")), _text(table.get("op"))
    return SloFact(metric, stat, op, value, _text(table.get("label")) or f"{metric} {stat} {op} {value:g}")


def _knob(entry: Mapping[str, Any]) -> KnobFact:
    return KnobFact(
        name=_text(entry.get("name")),
        kind=_text(entry.get("kind")),
        low=_number(entry.get("low")),
        high=_number(entry.get("high")),
        choices=tuple(_scalar(choice) for choice in _list(entry.get("choices"))),
        default=_scalar(entry.get("default")),
    )


def _text(value: object) -> str:
    return clean_line(value)[:MAX_TEXT] if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _scalar(value: object) -> bool | int | float | str | None:
    if isinstance(value, str):
        return _text(value)
    return value if value is None or isinstance(value, bool | int | float) else _text(str(value))


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
