"""Starting points of a search from configurations that a server's makers published: `trtune tune --starting-points`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines._recipes import Wish, nearest_recipes
from engines.gpu import NoGpu, open_gpu_source
from trtune.errors import UsageError
from tuner.variants import knobs_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engines._recipes import Recipe
    from engines.base import Engine
    from engines.knob import Knob, Value
    from tuner.plan import KnobRange, KnobValue, Plan

    Point = dict[str, Value]

MOST = 3
"""More would only delay what the search learns from its own trials."""


def with_starting_points(plan: Plan, engine: Engine, folder: Path, gpu: str = "") -> tuple[Plan, list[str]]:
    """The plan with the published configurations nearest to it as starting points, and what was taken, in words.

    A plan that leaves the choice of knobs to the engine searches those of the configurations too: they name what made
    them fast.

    Args:
        plan: The plan.
        engine: Its engine.
        folder: Where the configurations are.
        gpu: Name of the GPU; empty: that of this host, or of the simulated engine.

    Raises:
        BadConfiguration: If there are no configurations, or their files cannot be read.
        UsageError: If none fits.
    """
    wish = wish_of(plan, gpu)
    recipes = engine.recipes(folder)
    near = nearest_recipes(recipes, wish)
    if not near:
        raise UsageError(_nothing_fits(wish, recipes, folder))
    points: list[Point] = []
    words: list[str] = []
    for recipe in near:
        settings, unknown = engine.recipe_settings(recipe, plan.engine.known_version)
        if not settings or settings in points:
            continue
        points.append(settings)
        left_out = f"; left out, no settings of this version: {', '.join(unknown)}" if unknown else ""
        words.append(f"starting point {_told(recipe)}{left_out}")
        if len(points) == MOST:
            break
    knobs = plan.knobs or _widened(knobs_of(plan.engine, engine), points)
    return plan.model_copy(update={"starting_points": tuple(points), "knobs": knobs}), words


def wish_of(plan: Plan, gpu: str) -> Wish:
    """What the plan wants a configuration for."""
    from tuner.searching import hardware_of

    hardware = hardware_of(plan)
    name, count = (hardware.gpu.product_name, hardware.gpu_count) if hardware else _host_gpus(plan)
    fixed = plan.workload.dataset is None
    return Wish(
        model=plan.engine.model,
        gpu=gpu or name,
        gpu_count=0 if gpu else count,
        isl=plan.workload.isl.mean_tokens() if fixed else 0.0,
        osl=plan.workload.osl.mean_tokens() if fixed else 0.0,
        concurrency=plan.load_hint(),
    )


def _host_gpus(plan: Plan) -> tuple[str, int]:
    """Name and number of this host's GPUs; nothing when there are none, or the server is elsewhere."""
    source = open_gpu_source(None, plan.gpu.local)
    if isinstance(source, NoGpu):
        return "", 0
    found = source.gpus
    source.close()
    return found[0].name, len(found)


def _widened(
    knobs: Sequence[Knob], points: Sequence[Point]
) -> dict[str, KnobRange | tuple[KnobValue, ...] | KnobValue]:
    """The engine's usual knobs, and those of the points, as choices that hold the points' values too."""
    wanted: dict[str, KnobRange | tuple[KnobValue, ...] | KnobValue] = {}
    for knob in knobs:
        told = [point[knob.name] for point in points if knob.name in point]
        usual: tuple[Value, ...] = (False, True) if knob.kind == "bool" else knob.choices
        if not knob.searched:
            usual = (knob.default,)
        values = list(dict.fromkeys([*usual, *told]))
        if knob.searched or any(value != knob.default for value in told):
            wanted[knob.name] = tuple(sorted(values, key=_by_size)) if _all_numbers(values) else tuple(values)
    return wanted


def _all_numbers(values: Sequence[Value]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _by_size(value: Value) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _told(recipe: Recipe) -> str:
    parts = [f"{recipe.path.parent.name}/{recipe.path.name}: {recipe.model}"]
    if recipe.isl:
        parts.append(f"ISL {recipe.isl:g}, OSL {recipe.osl:g}, concurrency {recipe.concurrency:g}")
    return ", ".join([*parts, *([recipe.label] if recipe.label else [])])


def _nothing_fits(wish: Wish, recipes: Sequence[Recipe], folder: Path) -> str:
    models = sorted({recipe.model for recipe in recipes})
    shown = ", ".join(models[:6]) + (f" and {len(models) - 6} more" if len(models) > 6 else "")
    gpu = f" on {wish.gpu}" if wish.gpu else ""
    return f"--starting-points {folder}: nothing for {wish.model or 'no model'}{gpu}; there is something for: {shown}"
