"""vLLM's OpenAI server (contract others 1; captures of 0.24.0 on an H200)."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from typing import TYPE_CHECKING, ClassVar

from engines._flag_server import FlagServer, recognised
from engines._flags import batch_for, whole
from engines._http import get_json_or_none
from engines._page_metrics import PageMetrics
from engines._prometheus import whole_label
from engines._vllm_failures import FAILURES
from engines._vllm_knobs import BATCH_SIZES, DEFAULT_BLOCK_TOKENS, KNOBS
from engines._vllm_metrics import PREFIX, VllmReader
from engines.base import ServerInfo
from engines.launch.phases import PhaseRule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import aiohttp

    from engines._prometheus import Page
    from engines.failure import FailureRule
    from engines.knob import Knob, Value
    from engines.launch.spec import LaunchRequest
    from engines.sample import MetricsSource

MODULE = "vllm.entrypoints.openai.api_server"
"""Starts the same server without the `vllm` command, which builds under another distribution name lack."""

SERVER_INFO_TIMEOUT_S = 25.0
"""The first answer takes seconds: the server looks at its whole environment for it (seen on 0.32)."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
DEVELOPMENT: Mapping[str, str] = {"VLLM_SERVER_DEV_MODE": "1"}
"""Opens `/server_info`, the only place that tells `max_num_seqs`. Only on loopback: it also opens control routes."""

ALIASES = {
    "tp": "tensor-parallel-size",
    "pp": "pipeline-parallel-size",
    "dp": "data-parallel-size",
    "ep": "enable-expert-parallel",
    "dcp": "decode-context-parallel-size",
    "O": "optimization-level",
    "q": "quantization",
}

_CACHE_LABELS = (
    ("gpu_memory_utilization", "gpu-memory-utilization", float),
    ("block_size", "block-size", whole_label),
    ("cache_dtype", "kv-cache-dtype", str),
    ("num_gpu_blocks", "num-gpu-blocks-override", whole_label),
)
"""Labels of `vllm:cache_config_info`: the knob, and how the text is read."""

_SERVER_INFO = (
    ("scheduler_config", "max_num_seqs", "max-num-seqs", int),
    ("scheduler_config", "max_num_batched_tokens", "max-num-batched-tokens", int),
    ("scheduler_config", "enable_chunked_prefill", "enable-chunked-prefill", bool),
    ("scheduler_config", "async_scheduling", "async-scheduling", bool),
    ("parallel_config", "tensor_parallel_size", "tensor-parallel-size", int),
    ("parallel_config", "pipeline_parallel_size", "pipeline-parallel-size", int),
    ("parallel_config", "data_parallel_size", "data-parallel-size", int),
    ("model_config", "max_model_len", "max-model-len", int),
)
"""Section and key of `/server_info?config_format=json` as 0.32 answers it, the knob, and its type; what is missing or of
another type is left out."""

_LOG_NUMBERS = (
    (re.compile(r"Using max model len (\d{1,15})"), "max-model-len"),
    (re.compile(r"Chunked prefill is enabled with max_num_batched_tokens=(\d{1,15})"), "max-num-batched-tokens"),
    (re.compile(r"Initializing a V1 LLM engine .*\btensor_parallel_size=(\d{1,15})"), "tensor-parallel-size"),
    (re.compile(r"Initializing a V1 LLM engine .*\bpipeline_parallel_size=(\d{1,15})"), "pipeline-parallel-size"),
    (re.compile(r"Initializing a V1 LLM engine .*\bdata_parallel_size=(\d{1,15})"), "data-parallel-size"),
    (
        re.compile(r"Initializing a V1 LLM engine .*'max_cudagraph_capture_size': (\d{1,15})"),
        "max-cudagraph-capture-size",
    ),
)
_LOG_FLAGS = (
    (re.compile(r"Initializing a V1 LLM engine .*\benforce_eager=(True|False)"), "enforce-eager"),
    (re.compile(r"Initializing a V1 LLM engine .*\benable_prefix_caching=(True|False)"), "enable-prefix-caching"),
    (re.compile(r"Initializing a V1 LLM engine .*\benable_chunked_prefill=(True|False)"), "enable-chunked-prefill"),
)
_KV_MEMORY = re.compile(r"Available KV cache memory: (\d{1,9}(?:\.\d{1,9})?) GiB")
_ASYNC = re.compile(r"Asynchronous scheduling is (enabled|disabled)")


_WARM_UP = r"(?:GPU|CPU) KV cache size|Capturing (?:CUDA|cuda) graph|Dynamo bytecode transform|[Ww]arming up"

PHASES = (
    PhaseRule("load", re.compile(r"Loading (?:model|weights|safetensors)|Starting to load model")),
    PhaseRule("warm-up", re.compile(rf"Available KV cache memory|{_WARM_UP}")),
)
"""Lines that begin a phase of a start, as captured; before the first of them the program is imported."""


class Vllm(FlagServer):
    """vLLM. Token arrays are taken as prompts, and usage comes with every chunk when asked for."""

    name: ClassVar[str] = "vllm"
    title: ClassVar[str] = "vLLM"
    profiling: ClassVar[str] = "start it with --profiler-config, or VLLM_TORCH_PROFILER_DIR in older versions"
    program: ClassVar[str] = "vllm"
    install: ClassVar[str] = "pip install vllm"
    images: ClassVar[str] = "vllm/vllm-openai"
    continuous_usage: ClassVar[bool] = True
    startup_phases: ClassVar[tuple[PhaseRule, ...]] = PHASES
    flags: ClassVar[tuple[Knob, ...]] = KNOBS
    failures: ClassVar[tuple[FailureRule, ...]] = FAILURES
    own_options: ClassVar[frozenset[str]] = frozenset({"--host", "--port", "--model"})
    aliases: ClassVar[Mapping[str, str]] = ALIASES
    negated: ClassVar[bool] = True

    def words(self, request: LaunchRequest, host: str, port: int) -> tuple[str, ...]:
        """`vllm serve MODEL`, or the module, with its address."""
        command = request.command or _program(request)
        return (*_with_model(command, request.model), "--host", host, "--port", str(port))

    def variables(self, host: str) -> Mapping[str, str]:
        """On loopback those of development mode."""
        return DEVELOPMENT if host in LOOPBACK else {}

    def metrics(self, http: aiohttp.ClientSession, url: str) -> MetricsSource:
        """Reads `/metrics`."""
        hint = "is it vLLM, and runs it without --disable-log-stats?"
        return PageMetrics(http, f"{url}/metrics", VllmReader().read, hint, self.title)

    async def inspect(self, http: aiohttp.ClientSession, url: str) -> ServerInfo:
        """Version and model, and the settings that `/metrics` and, in development mode, `/server_info` tell.

        Raises:
            Unreachable: If nobody answers.
            EngineError: If it is no vLLM server.
        """
        card, page = await recognised(http, url, self.name, PREFIX, self.title)
        version = await get_json_or_none(http, f"{url}/version")
        told = await get_json_or_none(http, f"{url}/server_info?config_format=json", SERVER_INFO_TIMEOUT_S)
        effective = settings_of_page(page) | settings_of_server_info(told)
        if card.context_tokens:
            effective["max-model-len"] = card.context_tokens
        notes = () if told is not None else ("no /server_info: max-num-seqs in force cannot be read back",)
        text = str(version.get("version", "")) if isinstance(version, dict) else ""
        return ServerInfo(text, card.name, effective, notes)

    def starting_points(self, concurrency: float) -> tuple[dict[str, Value], ...]:
        """What upstream's tuning guide recommends: a large budget for throughput, a small one for ITL."""
        batch = batch_for(BATCH_SIZES, concurrency)
        return (
            {"max-num-batched-tokens": 16384, "gpu-memory-utilization": 0.95},
            {"max-num-seqs": batch, "max-num-batched-tokens": max(8192, batch), "gpu-memory-utilization": 0.95},
            {"max-num-batched-tokens": 2048},
            {"performance-mode": "throughput"},
        )

    def available(self) -> tuple[bool, str]:
        """Whether the `vllm` command or the package is here."""
        if not shutil.which(self.program) and importlib.util.find_spec("vllm"):
            return True, "vLLM from the package vllm of this Python environment"
        return super().available()

    def effective_from_log(self, lines: Sequence[str]) -> dict[str, Value]:
        """Lengths, budget, parallel sizes, switches and KV memory as the server prints them at its start."""
        effective: dict[str, Value] = {}
        for line in lines:
            for pattern, name in _LOG_NUMBERS:
                if match := pattern.search(line):
                    effective[name] = int(match[1])
            for pattern, name in _LOG_FLAGS:
                if match := pattern.search(line):
                    effective[name] = match[1] == "True"
            if match := _KV_MEMORY.search(line):
                effective["kv-cache-memory-bytes"] = int(float(match[1]) * 2**30)
            elif match := _ASYNC.search(line):
                effective["async-scheduling"] = match[1] == "enabled"
        return effective

    def conflicts(self, params: Mapping[str, Value]) -> str | None:
        """What vLLM refuses, or what has no effect next to another setting."""
        return find_conflict(params)


def find_conflict(params: Mapping[str, Value]) -> str | None:
    """Why these vLLM settings cannot work together, or None; also for NIM, which passes them on."""
    budget, sequences = whole(params, "max-num-batched-tokens"), whole(params, "max-num-seqs")
    length = whole(params, "max-model-len")
    if budget and sequences and budget < sequences:
        return f"max-num-batched-tokens {budget} is less than max-num-seqs {sequences}: each request needs a token"
    if budget and length and budget < length and params.get("enable-chunked-prefill") is False:
        return f"without chunked prefill max-num-batched-tokens {budget} must hold max-model-len {length}"
    blocks = whole(params, "num-gpu-blocks-override")
    room = blocks * (whole(params, "block-size") or DEFAULT_BLOCK_TOKENS)
    if blocks and length and room < length:
        return f"num-gpu-blocks-override {blocks} holds {room} tokens and not max-model-len {length}"
    if params.get("enforce-eager") and params.get("max-cudagraph-capture-size") is not None:
        return "max-cudagraph-capture-size has no effect with enforce-eager"
    ranks = (whole(params, "tensor-parallel-size") or 1) * (whole(params, "data-parallel-size") or 1)
    if params.get("enable-expert-parallel") and ranks == 1:
        return "enable-expert-parallel has no effect on a single GPU"
    return None


def settings_of_page(page: Page) -> dict[str, Value]:
    """Settings from the labels of `cache_config_info`; labels that do not parse are left out."""
    labels = page.labels("vllm:cache_config_info")
    found: dict[str, Value] = {}
    for label, knob, read in _CACHE_LABELS:
        text = labels.get(label, "None")
        try:
            found |= {knob: read(text)} if text != "None" else {}
        except ValueError:
            continue
    flag = labels.get("enable_prefix_caching", "")
    return found | ({"enable-prefix-caching": flag == "True"} if flag in ("True", "False") else {})


def settings_of_server_info(told: object) -> dict[str, Value]:
    """Settings from `/server_info`; what has another type than expected is left out."""
    config = told.get("vllm_config", told) if isinstance(told, dict) else None
    if not isinstance(config, dict):
        return {}
    found: dict[str, Value] = {}
    for section, key, knob, kind in _SERVER_INFO:
        part = config.get(section)
        value = part.get(key) if isinstance(part, dict) else None
        if type(value) is kind:
            found[knob] = value
    return found


def _program(request: LaunchRequest) -> tuple[str, ...]:
    """`vllm serve`, or the module where the package is here without its command; a container has the command."""
    if request.container is None and not shutil.which(Vllm.program) and importlib.util.find_spec("vllm"):
        return (sys.executable, "-m", MODULE)
    return (Vllm.program, "serve")


def _with_model(command: tuple[str, ...], model: str) -> tuple[str, ...]:
    """The command with the model as it takes it: the module wants an option, the `vllm` program a sub-command."""
    if MODULE in command:
        return (*command, "--model", model)
    return (*command, model) if command[-1] == "serve" else (*command, "serve", model)


ENGINE = Vllm()
"""What `engines.registry` finds."""
