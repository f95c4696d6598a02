"""Reads the facts a session states about itself; whatever a stranger's file says, the result is harmless values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui.harmless import number, scalar, table, text, values
from tui.search_facts import search_facts
from tui.snapshot import KnobFact, ObjectiveFact, SessionFacts, ShapeFact, SloFact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
    engine = table(meta.get("engine"))
    budget = table(meta.get("budget"))
    trials = number(budget.get("trials"))
    origin = meta.get("origin_utc_ns")
    return SessionFacts(
        path=path,
        kind=text(meta.get("kind")),
        name=text(meta.get("name")),
        engine=text(engine.get("title")) or text(engine.get("name")),
        model=text(engine.get("model")),
        url=text(engine.get("url")),
        simulated=engine.get("simulated") is True,
        workload=text(table(meta.get("workload")).get("label")),
        objective=_objective(table(meta.get("objective"))),
        knobs=tuple(_knob(table(entry)) for entry in values(meta.get("knobs"))),
        budget_trials=None if trials is None else int(trials),
        budget_s=number(budget.get("time_s")),
        spent_s=number(table(budget.get("spent")).get("time_s")),
        verdict=text(table(meta.get("verdict")).get("text")),
        winner=_winner(meta.get("verdict")),
        gpu_note=text(meta.get("gpu_note")),
        version=text(meta.get("trtune_version")),
        search=search_facts(meta),
        profile=text(table(meta.get("profile")).get("state")),
        shape=_shape(table(engine.get("shape"))),
        origin_utc_ns=origin if isinstance(origin, int) and not isinstance(origin, bool) else 0,
    )


def _winner(verdict: object) -> int | None:
    winner = table(verdict).get("winner")
    return winner if isinstance(winner, int) and not isinstance(winner, bool) else None


def _shape(entry: Mapping[str, Any]) -> ShapeFact | None:
    told = [number(entry.get(name)) for name in ("active_parameters", "weight_bytes", "kv_bytes_per_token")]
    known = [value for value in told if value is not None and value >= 0]
    return ShapeFact(*known) if len(known) == len(told) else None


def _objective(entry: Mapping[str, Any]) -> ObjectiveFact:
    metric = text(entry.get("metric"))
    return ObjectiveFact(
        label=text(entry.get("label")),
        metric=metric,
        stat=text(entry.get("stat")),
        maximize=entry.get("direction") != "minimize",
        unit=text(entry.get("unit")) or UNITS.get(metric, ""),
        slos=tuple(slo for slo in map(_slo, values(entry.get("slos"))) if slo is not None),
    )


def _slo(entry: object) -> SloFact | None:
    told = table(entry)
    value = number(told.get("value"))
    if value is None:
        return None
    metric, stat, op = text(told.get("metric")), text(told.get("stat")), text(told.get("op"))
    return SloFact(metric, stat, op, value, text(told.get("label")) or f"{metric} {stat} {op} {value:g}")


def _knob(entry: Mapping[str, Any]) -> KnobFact:
    return KnobFact(
        name=text(entry.get("name")),
        kind=text(entry.get("kind")),
        low=number(entry.get("low")),
        high=number(entry.get("high")),
        choices=tuple(scalar(choice) for choice in values(entry.get("choices"))),
        default=scalar(entry.get("default")),
        log=entry.get("log") is True,
        step=number(entry.get("step")),
        help=text(entry.get("help")),
    )
