"""TensorRT-LLM's server `trtllm-serve` with the PyTorch backend (contract trtllm)."""

from __future__ import annotations

import importlib.metadata
import re
from typing import TYPE_CHECKING, ClassVar

import yaml

from engines._flags import batch_for, check_arguments
from engines._http import get, get_json_or_none
from engines._knobs import check_params
from engines._models_page import cards_of, first_of
from engines._prometheus import whole_label
from engines._trtllm_conflicts import find_conflict
from engines._trtllm_failures import FAILURES
from engines._trtllm_knobs import knobs_of
from engines._trtllm_metrics import TrtllmMetrics, prometheus_page
from engines._trtllm_recipes import find_recipes, settings_of
from engines._trtllm_versioned import BATCH_SIZES
from engines._trtllm_versions import TEE, V1_2, is_before
from engines._trtllm_yaml import nested
from engines.base import Engine, ServerInfo
from engines.errors import EngineError
from engines.launch.container import listen_address
from engines.launch.phases import PhaseRule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import aiohttp

    from engines._prometheus import Page
    from engines._recipes import Recipe
    from engines.knob import Knob, Value
    from engines.launch.spec import LaunchRequest, LaunchSpec
    from engines.sample import MetricsSource

CONFIG_FILE = "trtllm-serve.yaml"
SERVER_INFO_TIMEOUT_S = 30.0

ITERATION_STATS = "enable_iter_perf_stats"
"""Turns `/metrics` on (contract trtllm 10)."""

REQUEST_STATS = "return_perf_metrics"
"""Turns `/prometheus/metrics` on; 1.0 does not know the key, and an unknown key stops the server."""

AS_ROOT: Mapping[str, str] = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
"""In a container the user is usually root, whom Open MPI refuses to serve (contract trtllm 1.6)."""

OWN_OPTIONS = frozenset({"--host", "--port", "--backend", "--config", "--extra_llm_api_options"})
OPTION_ALIASES = {  # which of YAML and command line wins changed between releases
    "tp_size": "tensor_parallel_size",
    "pp_size": "pipeline_parallel_size",
    "cp_size": "context_parallel_size",
    "ep_size": "moe_expert_parallel_size",
    "cluster_size": "moe_cluster_parallel_size",
    "free_gpu_memory_fraction": "kv_cache_config.free_gpu_memory_fraction",
    "kv_cache_free_gpu_memory_fraction": "kv_cache_config.free_gpu_memory_fraction",
    "kv_cache_dtype": "kv_cache_config.dtype",
}

PHASES = (
    PhaseRule("load", re.compile(r"[Ll]oading weights")),
    PhaseRule(
        "warm-up",
        re.compile(r"memory usage profiling|for max tokens in paged KV cache|Creating CUDA graph|[Aa]utotuner"),
    ),
)
"""Log lines that begin the phases of a start (contract trtllm 1.5 and 8.1): estimation, graphs and kernels are the warm-up."""

_CONFIG_GAUGES = (
    ("parallel_config_info", "tensor_parallel_size", "tensor_parallel_size", whole_label),
    ("parallel_config_info", "pipeline_parallel_size", "pipeline_parallel_size", whole_label),
    ("parallel_config_info", "context_parallel_size", "context_parallel_size", whole_label),
    ("parallel_config_info", "expert_parallel_size", "moe_expert_parallel_size", whole_label),
    ("kv_cache_config_info", "page_size", "kv_cache_config.tokens_per_block", whole_label),
    ("kv_cache_config_info", "free_gpu_memory_fraction", "kv_cache_config.free_gpu_memory_fraction", float),
    ("kv_cache_config_info", "cache_dtype", "kv_cache_config.dtype", str),
    ("model_config_info", "max_model_len", "max_seq_len", whole_label),
    ("speculative_config_info", "spec_num_tokens", "speculative_config.max_draft_len", whole_label),
)
"""Config-info gauge, its label, the knob, and how the text is read (contract trtllm 3.3)."""

_FLAG_GAUGES = (
    ("kv_cache_config_info", "enable_block_reuse", "kv_cache_config.enable_block_reuse"),
    ("kv_cache_config_info", "enable_partial_reuse", "kv_cache_config.enable_partial_reuse"),
)

_LOG_NUMBERS = (
    (re.compile(r"\[TRT-LLM\].*\bmax_seq_len=(\d{1,15}), max_num_requests="), "max_seq_len"),
    (re.compile(r"Adjusted max_seq_len to (\d{1,15})"), "max_seq_len"),
    (re.compile(r"\[TRT-LLM\].*\bmax_num_tokens=(\d{1,15}), max_batch_size="), "max_num_tokens"),
    (re.compile(r"\[TRT-LLM\].*\bmax_num_tokens=\d+, max_batch_size=(\d{1,15})"), "max_batch_size"),
    (re.compile(r"for max tokens in paged KV cache \((\d{1,15})\)"), "kv_cache_config.max_tokens"),
)
"""Log lines that tell what is in force. The last line of a kind counts: the first KV pool is a temporary one."""


class Trtllm(Engine):
    """TensorRT-LLM. All tuned settings go into one YAML file and none on the command line (contract trtllm 1.3)."""

    name: ClassVar[str] = "trtllm"
    title: ClassVar[str] = "TensorRT-LLM"
    program: ClassVar[str] = "trtllm-serve"
    install: ClassVar[str] = "pip install 'trtune[trtllm]'"
    images: ClassVar[str] = "nvidia/tensorrt-llm/release"
    continuous_usage: ClassVar[bool] = True
    startup_phases: ClassVar[tuple[PhaseRule, ...]] = PHASES
    profiling: ClassVar[str] = (
        "profiling a running server needs 1.3.0rc15 or newer with the PyTorch backend; start older ones under nsys:"
        " trtune profile script"
    )

    def knobs(self, version: str = "") -> tuple[Knob, ...]:
        """The knobs whose keys this version line takes; an unknown key stops the server."""
        return knobs_of(version)

    def launch(self, request: LaunchRequest) -> LaunchSpec:
        """The command and its YAML file.

        Raises:
            BadConfiguration: If a setting is unknown or out of its domain, or an argument says what the YAML says.
        """
        version = version_of(request)
        check_params(self.title, self.knobs(version), request.params)
        check_arguments(request.arguments, request.params, OWN_OPTIONS, OPTION_ALIASES)
        path = request.work_dir / CONFIG_FILE
        host, port = listen_address(request)
        words = (
            *(request.command or (self.program,)),
            *("serve", request.model, "--host", host, "--port", str(port)),
            *("--backend", "pytorch", config_option(version), str(path)),
        )
        as_root = AS_ROOT if request.container else {}
        return self.launch_spec(request, words, FAILURES, as_root, {path: yaml_text(request.params, version)})

    def metrics(self, http: aiohttp.ClientSession, url: str) -> MetricsSource:
        """The one reader of `/metrics`, which forgets what was read."""
        return TrtllmMetrics(http, url)

    async def inspect(self, http: aiohttp.ClientSession, url: str) -> ServerInfo:
        """Version, model and what can be read back of the settings (contract trtllm 2.1 and 3.3).

        Raises:
            Unreachable: If nobody answers.
            EngineError: If it is no TensorRT-LLM server.
        """
        answer = await get(http, f"{url}/version")
        version = answer.json() if answer.status == 200 else None
        if not isinstance(version, dict) or "version" not in version:
            raise EngineError(f"{url} is not a TensorRT-LLM server: its /version answers {answer.status}")
        models = await get_json_or_none(http, f"{url}/v1/models")
        server_info = await get_json_or_none(http, f"{url}/server_info", SERVER_INFO_TIMEOUT_S)
        page = await prometheus_page(http, url)
        effective = {**_from_gauges(page), **_from_server_info(server_info)}
        notes = () if page is not None else ("no /prometheus/metrics: the server runs without return_perf_metrics",)
        return ServerInfo(str(version["version"]), str(first_of(cards_of(models)).get("id", "")), effective, notes)

    def starting_points(self, concurrency: float) -> tuple[dict[str, Value], ...]:
        """What upstream's guides recommend, with the batch size fitted to the load (contract trtllm 5.9)."""
        batch = batch_for(BATCH_SIZES, concurrency)
        guided: dict[str, Value] = {
            "max_batch_size": batch,
            "enable_chunked_prefill": True,
            "cuda_graph_config.enable_padding": True,
            "cuda_graph_config.max_batch_size": batch,
        }
        packed: dict[str, Value] = {
            "kv_cache_config.free_gpu_memory_fraction": 0.95,
            "scheduler_config.capacity_scheduler_policy": "MAX_UTILIZATION",
        }
        return (
            guided,
            guided | packed,
            guided | {"max_num_tokens": 16384},
            guided | {"max_num_tokens": max(2048, batch)},
        )

    def recipes(self, folder: Path) -> tuple[Recipe, ...]:
        """NVIDIA's `examples/configs`, of a checkout or a folder like it.

        Raises:
            BadConfiguration: If there are none.
        """
        return find_recipes(folder)

    def recipe_settings(self, recipe: Recipe, version: str = "") -> tuple[dict[str, Value], tuple[str, ...]]:
        """A recipe's settings by knob name, and the names of those that are no knob of this version.

        Raises:
            BadConfiguration: If its file cannot be read.
        """
        return settings_of(recipe, self.knobs(version))

    def effective_from_log(self, lines: Sequence[str]) -> dict[str, Value]:
        """Lengths, batch size and KV capacity as the server lowered them."""
        effective: dict[str, Value] = {}
        for line in lines:
            for pattern, name in _LOG_NUMBERS:
                if match := pattern.search(line):
                    effective[name] = int(match[1])
        return effective

    def conflicts(self, params: Mapping[str, Value]) -> str | None:
        """What cannot work, or has no effect next to another setting (contract trtllm 5.8)."""
        return find_conflict(params)


def yaml_text(params: Mapping[str, Value], version: str = "") -> str:
    """The YAML file for these settings, with the statistics switched on that trtune reads.

    Builds in which Prometheus and `/metrics` race for one queue get the statistics without `return_perf_metrics`; those
    that still have `/perf_metrics` are not asked for it, since its records cost memory until they are read.
    """
    stats = {ITERATION_STATS: True} if is_before(version, TEE) else {ITERATION_STATS: True, REQUEST_STATS: True}
    return yaml.safe_dump(nested(knobs_of(version), params) | stats, sort_keys=True, default_flow_style=False)


def version_of(request: LaunchRequest) -> str:
    """The version that will be started: the plan's, else the image by its tag, else the installed one.

    Unknown behind another command.
    """
    if request.version or request.container is None:
        return request.version or ("" if request.command else installed_version())
    return request.container.image


def installed_version() -> str:
    """Version of TensorRT-LLM in this Python environment, or an empty string."""
    try:
        return importlib.metadata.version("tensorrt_llm")
    except importlib.metadata.PackageNotFoundError:
        return ""


def config_option(version: str) -> str:
    """`--config` exists since 1.2 (contract trtllm 0.2)."""
    return "--extra_llm_api_options" if is_before(version, V1_2) else "--config"


def _from_gauges(page: Page | None) -> dict[str, Value]:
    """Settings from the labels of the config-info gauges; labels that do not parse are left out."""
    if page is None:
        return {}
    found: dict[str, Value] = {}
    for gauge, label, knob, read in _CONFIG_GAUGES:
        text = page.labels(f"trtllm_{gauge}", gauge).get(label, "")
        try:
            found[knob] = read(text) if text not in ("", "None", "null") else None
        except ValueError:
            continue
    for gauge, label, knob in _FLAG_GAUGES:
        text = page.labels(f"trtllm_{gauge}", gauge).get(label, "").lower()
        if text in ("true", "false"):
            found[knob] = text == "true"
    return {name: value for name, value in found.items() if value is not None}


def _from_server_info(info: object) -> dict[str, Value]:
    """Batch size and block size in force; they may differ from what was asked for."""
    if not isinstance(info, dict):
        return {}
    names = {"max_batch_size": "max_batch_size", "tokens_per_block": "kv_cache_config.tokens_per_block"}
    return {knob: info[key] for key, knob in names.items() if type(info.get(key)) is int}


ENGINE = Trtllm()
"""What `engines.registry` finds."""
