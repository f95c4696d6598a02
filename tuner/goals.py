"""What a plan may ask for: objectives, limits, presets, prices. Filled in here, so that a stored plan says everything."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic needs it at run time
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sessions.metrics import METRICS, STATS
from sessions.slo import BadSlo, Slo, metric_name
from tuner.presets import PRESETS
from tuner.search.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Mapping

Direction = Literal["maximize", "minimize"]
Preset = Literal["throughput", "latency", "interactive", "cost", "energy"]

DEFAULT_METRIC: Final = "output_token_throughput"


class PlanPart(BaseModel):
    """Base of the plan's models: unknown fields are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class GoalPlan(PlanPart):
    """One objective: a metric, a statistic of it, and which way is better."""

    metric: str = Field(DEFAULT_METRIC, description="a name of docs/metrics.md, or AIPerf's for the same thing")
    stat: str = Field("avg", description="statistic, such as p99; scalars have avg only")
    direction: Direction = Field("maximize", description="left out: the side on which the metric is better")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, told: Any) -> Any:
        return _with_direction(told) if isinstance(told, dict) else told

    @model_validator(mode="after")
    def _names_are_known(self) -> GoalPlan:
        if self.metric not in METRICS:
            raise ValueError(f"metric {self.metric!r} is unknown; there are: {', '.join(METRICS)}")
        stats = STATS if METRICS[self.metric].distribution else ("avg",)
        if self.stat not in stats:
            raise ValueError(f"{self.metric} has no statistic {self.stat!r}; there are: {', '.join(stats)}")
        return self


class ObjectivePlan(GoalPlan):
    """What counts as better, and what must not be exceeded."""

    preset: Preset | None = Field(
        None, description="throughput, latency, interactive, cost or energy: fills in what is left out"
    )
    slos: tuple[str, ...] = Field((), description="limits such as 'ttft:p99:<=:500'")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, told: Any) -> Any:
        return _with_direction(_with_preset(told)) if isinstance(told, dict) else told

    @model_validator(mode="after")
    def _limits_can_be_read(self) -> ObjectivePlan:
        self.parsed_slos()
        return self

    def to_objective(self) -> Objective:
        """The same as the search takes it."""
        return Objective(self.metric, self.stat, self.direction, self.parsed_slos())

    def parsed_slos(self) -> tuple[Slo, ...]:
        """The limits as values.

        Raises:
            ValueError: If one cannot be read.
        """
        try:
            return tuple(Slo.parse(text) for text in self.slos)
        except BadSlo as error:
            raise ValueError(str(error)) from error


class PricePlan(PlanPart):
    """What the hardware costs."""

    gpu_hour: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="price of one GPU for an hour; with it cost per million tokens is told and money can be a budget",
    )


class QualityPlan(PlanPart):
    """When an altered model (checkpoint, quantisation, KV-cache type) must still answer like the unaltered one, and how closely."""

    mode: Literal["auto", "always", "never"] = Field(
        "auto", description="auto: configurations that alter the model; always: every one; never: no gate"
    )
    agreement: Annotated[float, Field(ge=0, le=1)] = Field(
        0.9, description="smallest share of greedy tokens, each after the reference's own words, that must be the same"
    )
    divergence: Annotated[float, Field(ge=0)] = Field(
        0.15, description="largest mean difference of the log-probabilities of these tokens, in nats"
    )
    tokens: Annotated[int, Field(ge=4, le=1024)] = Field(48, description="length of each answer")
    prompts: Path | None = Field(None, description="text file with prompts, blank lines between them; none: our own 24")
    reference: dict[str, bool | int | float | str | None] = Field(
        default_factory=dict, description="knob values of the unaltered model, where they are not the baseline's"
    )
    tasks: tuple[str, ...] = Field(
        (), description="tasks of lm-eval to run too (trtune[quality]); they need its data sets"
    )
    task_loss: Annotated[float, Field(ge=0)] = Field(0.02, description="how much worse a task's score may be")


def parse_goal(text: str) -> dict[str, str]:
    """Read `metric`, `metric:stat` or `metric:stat:direction` from a command line as fields of a goal.

    The two forms with one or two parts take the usual statistic (`avg`) and the side on which the metric is better.

    Raises:
        ValueError: If it is none of these.
    """
    parts = [part.strip() for part in text.split(":")]
    names = ("metric", "stat", "direction")
    if not 1 <= len(parts) <= len(names) or not all(parts):
        raise ValueError(f"objective {text!r}: write metric:stat:direction, for example ttft:p99:minimize")
    return dict(zip(names, parts, strict=False))


def _with_preset(told: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with those that the preset fills in; an unknown preset is left for the model to refuse."""
    fields = dict(told)
    name = fields.get("preset")
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        return fields
    if "metric" not in fields:
        fields |= {"metric": preset.metric, "stat": fields.get("stat", preset.stat)}
    own = fields.get("slos", ())
    if isinstance(own, list | tuple):
        limited = {_what_is_limited(text) for text in own}
        fields["slos"] = [*own, *(text for text in preset.slos if _what_is_limited(text) not in limited)]
    return fields


def _what_is_limited(slo: object) -> tuple[str, ...]:
    parts = str(slo).split(":")
    return metric_name(parts[0].strip()), *(part.strip() for part in parts[1:2])


def _with_direction(told: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with our name of the metric, and the direction in which it is better."""
    fields = dict(told)
    metric = fields.get("metric", DEFAULT_METRIC)
    if isinstance(metric, str):
        fields["metric"] = metric_name(metric)
        known = METRICS.get(fields["metric"])
        if fields.get("direction") is None and known is not None:
            fields["direction"] = "minimize" if known.better == "lower" else "maximize"
    return fields


assert set(PRESETS) == set(get_args(Preset))
