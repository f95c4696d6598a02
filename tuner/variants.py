"""Variants of the model as a knob: other checkpoints (FP8, INT8, INT4, NVFP4) that may be served in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engines.knob import Knob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.base import Engine
    from engines.knob import Value
    from tuner.plan import EnginePlan, KnobRange, KnobValue, Plan

CHECKPOINT: Final = "checkpoint"
"""The knob's name; no server has one of that name. Its default is the plan's model, the unaltered one."""


def knobs_of(plan: EnginePlan, engine: Engine) -> tuple[Knob, ...]:
    """The engine's knobs, and the choice of the checkpoint where the plan names variants."""
    knobs = tuple(engine.knobs(plan.known_version))
    if not plan.variants:
        return knobs
    choices = _checkpoints(plan)
    help_text = "Checkpoint that is served: the model itself, or a variant of it."
    return (
        *knobs,
        Knob(CHECKPOINT, "choice", plan.model, choices=choices, coarse=True, searched=True, help=help_text),
    )


def wishes_of(plan: Plan) -> dict[str, KnobRange | tuple[KnobValue, ...] | KnobValue]:
    """The knobs that the plan wants searched or held: a plan that names variants and some knobs means the variants too."""
    wishes = dict(plan.knobs)
    if wishes and plan.engine.variants and CHECKPOINT not in wishes:
        wishes[CHECKPOINT] = _checkpoints(plan.engine)
    return wishes


def _checkpoints(plan: EnginePlan) -> tuple[str, ...]:
    return (plan.model, *(name for name in plan.variants if name != plan.model))


def served(plan: EnginePlan, params: Mapping[str, Value]) -> tuple[str, dict[str, Value]]:
    """Which checkpoint a configuration serves, and the settings that are left for the server."""
    model = params.get(CHECKPOINT) if plan.variants else None
    rest = {name: value for name, value in params.items() if name != CHECKPOINT or not plan.variants}
    return (plan.model if model is None else str(model)), rest
