"""Writes docs/plan.md from the plan's own models, so that the page cannot disagree with the program.

`python -m trtune.plandoc > docs/plan.md`
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from tuner.goals import GoalPlan, ObjectivePlan, PricePlan, QualityPlan
from tuner.load.lengths import DISTRIBUTIONS
from tuner.load.spec import Arrivals, Cancel, Dataset, Limits, Prefix, StopRule, Turns, Workload
from tuner.plan import ClusterPlan, ContainerPlan, EnginePlan, FleetPlan, GpuPlan, LoadPlan, Plan, SearchPlan

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("", Plan),
    ("engine", EnginePlan),
    ("engine.container", ContainerPlan),
    ("engine.cluster", ClusterPlan),
    ("gpu", GpuPlan),
    ("workload", Workload),
    ("workload.dataset", Dataset),
    ("workload.prefix", Prefix),
    ("workload.turns", Turns),
    ("workload.arrivals", Arrivals),
    ("workload.cancel", Cancel),
    ("load", LoadPlan),
    ("load.stop", StopRule),
    ("load.limits", Limits),
    ("objective", ObjectivePlan),
    ("objectives", GoalPlan),
    ("price", PricePlan),
    ("quality", QualityPlan),
    ("search", SearchPlan),
    ("fleet", FleetPlan),
)

_REPEATED = ("objectives",)
"""Tables that a plan may hold more than once."""

_HEAD = """\
# The plan file

A plan is a TOML file that says what to run, against which server, under which load, for which objective. Every field has
a default or is marked *required*; on the command line every field can be set with `--set FIELD=VALUE`. A wrong field or
value is refused with its place and with what is allowed.

This page is made from the program itself: `python -m trtune.plandoc > docs/plan.md`.

## Limits, the short way

```toml
[slo]
ttft_p99_ms = 500
tpot_p99_ms = 25
error_ratio = 0.01
```

is the same as `objective.slos = ["ttft:p99:<=:500", "tpot:p99:<=:25", "error_ratio:avg:<=:0.01"]`. The metrics are those of
[metrics.md](metrics.md).

## Knobs

```toml
[knobs]
max_batch_size = { low = 8, high = 512, log = true }     # a range
enable_chunked_prefill = [false, true]                   # choices
max_num_tokens = 8192                                    # held at one value
quantization = ["default", "fp8"]                        # default: left out, so that the server decides
kv_cache_config.free_gpu_memory_fraction = [0.8, 0.9]    # members of nested objects are joined with a dot

[baseline]
tensor_parallel_size = 2                                 # where the baseline differs from the server's defaults
```

Without `[knobs]` the engine's usual ones are searched; `trtune doctor` lists the engines. For NIM,
`NIM_MODEL_PROFILE = "runnable"` stands for every profile that the image says this host can run, and for its own choice.

## Lengths

`isl = 1024` is a fixed length, `isl = [128, 256, 4096]` one of these, each as likely. A distribution is a table, such as
`isl = { distribution = "uniform", min = 128, max = 1024 }`:

"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD + _distributions()]
    for name, model in SECTIONS:
        told = _attribute_docs(model)
        parts.append(f"\n## {_heading(name)}\n\n{_first_line(model)}\n")
        parts.append("| field | default | meaning |\n|---|---|---|")
        parts += [_row(field, info, told) for field, info in model.model_fields.items() if not _is_section(name, field)]
    return "\n".join(parts) + "\n"


def _distributions() -> str:
    """Every distribution of lengths with its fields, those that may be left out with what they are then."""
    lines = ["| `distribution` | fields | meaning |", "|---|---|---|"]
    for distribution, model in DISTRIBUTIONS.items():
        fields = [
            f"`{name}`" if info.is_required() else f"`{name}` ({_default(info).strip('`')})"
            for name, info in model.model_fields.items()
            if name != "distribution"
        ]
        lines.append(f"| `{distribution}` | {', '.join(fields)} | {_first_line(model)} |")
    return "\n".join(lines) + "\n"


def _heading(name: str) -> str:
    if name in _REPEATED:
        return f"[[{name}]]"
    return f"[{name}]" if name else "Top level"


def _is_section(section: str, field: str) -> bool:
    names = {name for name, _ in SECTIONS}
    return (f"{section}.{field}" if section else field) in names or field in ("knobs", "baseline")


def _row(name: str, info: FieldInfo, told: dict[str, str]) -> str:
    meaning = info.description or told.get(name, "")
    return f"| `{name}` | {_default(info)} | {meaning.replace('|', chr(92) + '|')} |"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "*required*"
    value: Any = info.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None or value in ("", (), {}):
        return "none"
    if isinstance(value, BaseModel):
        inner = value.model_dump(mode="json", exclude={"distribution"}, exclude_none=True)
        value = inner.get("tokens", inner)
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _first_line(model: type[BaseModel]) -> str:
    return (inspect.getdoc(model) or "").partition("\n")[0]


def _attribute_docs(model: type[BaseModel]) -> dict[str, str]:
    """What the docstring's `Attributes:` section says of each field."""
    text = inspect.getdoc(model) or ""
    _, _, attributes = text.partition("Attributes:\n")
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", words).strip() for name, words in found}


if __name__ == "__main__":
    sys.stdout.write(page())
