"""TensorRT-LLM's engine backend: engines are built before they are served, as 1.0 to 1.3.0rc20 can (contract trtllm 6)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import yaml

from engines._flags import batch_for, check_arguments
from engines._knobs import check_params
from engines._trtllm_build import build_key, build_steps, is_engine
from engines._trtllm_build_tables import BATCH_TUNING, BUDGET_TUNING, BUILD, KNOBS, PP, QFORMAT, TP
from engines._trtllm_failures import FAILURES
from engines._trtllm_versioned import BATCH_SIZES
from engines._trtllm_versions import LATE, is_before, parse_version
from engines._trtllm_yaml import nested, put, read_settings
from engines.errors import BadConfiguration
from engines.trtllm import CONFIG_FILE, OPTION_ALIASES, OWN_OPTIONS, Trtllm, config_option, version_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines._recipes import Recipe
    from engines.failure import FailureRule
    from engines.knob import Knob, Value
    from engines.launch.spec import LaunchRequest, LaunchSpec

_NAMES = {
    "max_num_tokens": f"{BUILD}max_num_tokens",
    "max_batch_size": f"{BUILD}max_batch_size",
    "max_seq_len": f"{BUILD}max_seq_len",
}
MOVING_AVERAGE_WINDOW = 128
"""Requests over which the server's own batch tuning looks at lengths, where nobody says else."""

LIMITS = ("max_batch_size", "max_num_tokens", "max_beam_width")
"""Options of the server that may not be more than the engine was built for, as the build calls them too."""

_KNOWN = frozenset(knob.name for knob in KNOBS)


def _accusing_builds(rule: FailureRule) -> FailureRule:
    """A rule of the server's with the knobs that this backend has instead."""
    names = (_NAMES.get(name, name) for name in rule.accuses)
    return replace(rule, accuses=tuple(name for name in names if name in _KNOWN))


class TrtllmEngines(Trtllm):
    """TensorRT-LLM with built engines. `model` is a Hugging Face model, or a folder that holds a built engine."""

    name: ClassVar[str] = "trtllm_engines"
    title: ClassVar[str] = "TensorRT-LLM with built engines"
    profiling: ClassVar[str] = ""

    def knobs(self, version: str = "") -> tuple[Knob, ...]:
        """Settings of conversion, build and start; the same for all versions that have this backend."""
        return KNOBS

    def check_model(self, model: str) -> str | None:
        """A folder is a model or an engine."""
        return None if is_engine(Path(model)) else super().check_model(model)

    def launch(self, request: LaunchRequest) -> LaunchSpec:
        """The steps that make the engine, the command that serves it, and its YAML file.

        Raises:
            BadConfiguration: If a setting is unknown or out of its domain, the version has no such backend, or a built
                engine is given other settings of its build.
        """
        version = version_of(request)
        if parse_version(version) and not is_before(version, LATE):
            raise BadConfiguration(f"TensorRT-LLM {version} has no engine backend any more: use the engine trtllm")
        check_params(self.title, KNOBS, request.params)
        check_arguments(request.arguments, request.params, OWN_OPTIONS, OPTION_ALIASES)
        given = is_engine(Path(request.model))
        frozen = [knob.name for knob in KNOBS if knob.cost == "build" and _is_set(knob, request.params)]
        if given and frozen:
            raise BadConfiguration(
                f"{request.model} is a built engine: {frozen[0]} is frozen in it; give the model instead"
            )
        steps = () if given else build_steps(request, version)
        served = request.model if given else str(steps[-1].output)
        path = request.work_dir / CONFIG_FILE
        words = (
            *(request.command or (self.program,)),
            *("serve", served, "--host", request.host, "--port", str(request.port)),
            *(() if given else ("--tokenizer", request.model)),
            *("--backend", "tensorrt", *(limits_of_engine(Path(request.model)) if given else _limits(request.params))),
            *(config_option(version), str(path)),
        )
        failures = tuple(_accusing_builds(rule) for rule in FAILURES)
        spec = self.launch_spec(request, words, failures, files={path: _yaml(request.params)})
        return replace(spec, builds=steps, container=None)

    def build_key(self, params: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
        """The settings that are frozen in an engine."""
        return build_key(params)

    def recipes(self, folder: Path) -> tuple[Recipe, ...]:
        """None: NVIDIA's are for the PyTorch backend.

        Raises:
            BadConfiguration: Always.
        """
        raise self.no_recipes()

    def starting_points(self, concurrency: float) -> tuple[dict[str, Value], ...]:
        """What upstream's guide to build flags recommends, with the batch size fitted to the load."""
        batch = batch_for(BATCH_SIZES, concurrency)
        base: dict[str, Value] = {f"{BUILD}max_batch_size": batch, f"{BUILD}multiple_profiles": True}
        return (
            {**base, "kv_cache_config.free_gpu_memory_fraction": 0.95, "enable_chunked_prefill": True},
            {**base, "extended_runtime_perf_knob_config.cuda_graph_mode": True},
        )

    def conflicts(self, params: Mapping[str, Value]) -> str | None:
        """What cannot be built or served."""
        batch, tokens = params.get(f"{BUILD}max_batch_size"), params.get(f"{BUILD}max_num_tokens")
        if isinstance(batch, int) and isinstance(tokens, int) and batch > tokens:
            return f"{BUILD}max_batch_size {batch} is more than {BUILD}max_num_tokens {tokens}"
        if params.get("enable_chunked_prefill") and params.get(f"{BUILD}use_paged_context_fmha") is False:
            return f"enable_chunked_prefill needs {BUILD}use_paged_context_fmha"
        if params.get(f"{BUILD}use_fp8_context_fmha") and params.get(QFORMAT) != "fp8":
            return f"{BUILD}use_fp8_context_fmha needs {QFORMAT} fp8"
        if params.get(f"{BUILD}reduce_fusion") and params.get(TP, 1) == 1 and params.get(PP, 1) == 1:
            return f"{BUILD}reduce_fusion has no effect on one GPU"
        return None


def _limits(params: Mapping[str, Value]) -> tuple[str, ...]:
    """The engine's limits for the server, which else takes defaults of its own and refuses an engine with smaller ones."""
    values = {knob.name: params.get(knob.name, knob.default) for knob in KNOBS}
    return tuple(word for name in LIMITS for word in (f"--{name}", str(values[f"{BUILD}{name}"])))


def limits_of_engine(folder: Path) -> tuple[str, ...]:
    """The same for an engine that is there, from its `config.json`; nothing where that does not tell them."""
    try:
        told = read_settings(folder / "config.json").get("build_config")
    except BadConfiguration:
        return ()
    limits = told if isinstance(told, dict) else {}
    return tuple(
        word
        for name in LIMITS
        if isinstance(limits.get(name), int) and not isinstance(limits[name], bool)
        for word in (f"--{name}", str(limits[name]))
    )


def _is_set(knob: Knob, params: Mapping[str, Value]) -> bool:
    return params.get(knob.name) not in (None, knob.default)


def _yaml(params: Mapping[str, Value]) -> str:
    """The settings that are read at the start. This backend keeps its statistics unasked, and has no key for that.

    An object `scheduler_config` replaces the one that `trtllm-serve` makes, which fits the batch size to the load; and
    the members of `dynamic_batch_config` have no defaults. So all of it is written, or nothing.
    """
    names = {knob.name for knob in KNOBS if knob.cost == "restart"}
    told = nested(KNOBS, {name: value for name, value in params.items() if name in names})
    if "scheduler_config" in told:
        put(told, BATCH_TUNING, params.get(BATCH_TUNING) is not False)
        put(told, BUDGET_TUNING, params.get(BUDGET_TUNING) is True)
        put(told, "scheduler_config.dynamic_batch_config.dynamic_batch_moving_average_window", MOVING_AVERAGE_WINDOW)
    return yaml.safe_dump(told, sort_keys=True, default_flow_style=False)


ENGINE = TrtllmEngines()
"""What `engines.registry` finds."""
