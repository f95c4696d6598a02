"""The command line of ``vllm serve``: argparse's own errors, underscores for dashes, ``8k`` for numbers, a YAML file."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from engines.simulated.vllm import flags

PROGRAM: Final = "api_server.py"
"""Program name in usage errors (captured: started as ``python -m vllm.entrypoints.openai.api_server``)."""

_SUFFIXES: Final = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_WHOLE: Final = re.compile(r"(\d+(?:\.\d+)?)([kmgKMG]?)")


@dataclass(frozen=True, slots=True)
class ServeCommand:
    """A parsed command line; None means left to the server.

    Attributes:
        model: model as typed.
        served_names: names to answer with; the first one stands in answers and metrics.
        host: address to bind.
        port: port to bind.
        max_num_seqs: most requests of one iteration.
        max_num_batched_tokens: token budget of one iteration.
        max_model_len: longest prompt plus output.
        tensor_parallel_size: GPUs that share each layer.
        pipeline_parallel_size: groups of GPUs with consecutive layers.
        gpu_memory_utilization: share of the total memory the server may use.
        kv_cache_memory_bytes: KV cache of one GPU, instead of what the share leaves.
        num_gpu_blocks_override: KV blocks, whatever the memory says.
        kv_cache_dtype: KV element type.
        block_size: tokens of a KV block.
        enable_prefix_caching: whether prompts share KV blocks.
        enable_chunked_prefill: whether a prompt may be split over iterations.
        enforce_eager: no CUDA graphs.
        cudagraph_capture_sizes: batch sizes to capture.
        max_cudagraph_capture_size: largest batch to capture.
        async_scheduling: whether host work overlaps the GPU's.
        stream_interval: tokens of a chunk.
        quantization: weight quantisation asked for.
        disable_log_stats: whether engine metrics are off.
        typed: every option typed, by name, for the log.
    """

    model: str
    served_names: tuple[str, ...]
    host: str
    port: int
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    max_model_len: int | None
    tensor_parallel_size: int
    pipeline_parallel_size: int
    gpu_memory_utilization: float
    kv_cache_memory_bytes: int | None
    num_gpu_blocks_override: int | None
    kv_cache_dtype: str
    block_size: int
    enable_prefix_caching: bool
    enable_chunked_prefill: bool
    enforce_eager: bool
    cudagraph_capture_sizes: tuple[int, ...]
    max_cudagraph_capture_size: int | None
    async_scheduling: bool
    stream_interval: int
    quantization: str | None
    disable_log_stats: bool
    typed: dict[str, Any]

    @property
    def ignored(self) -> tuple[str, ...]:
        """Options typed that have no effect here."""
        return tuple(sorted(name for name in self.typed if name not in flags.SIMULATED))


def _whole(text: str) -> int:
    match = _WHOLE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(float(match[1]) * _SUFFIXES.get(match[2], 1))


def build_parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """Return the parser; nothing has a default, so that what was typed can be told."""
    parser = argparse.ArgumentParser(prog=program, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("model_tag", nargs="?")

    def add(name: str, **rest: Any) -> None:  # argparse's own keywords
        names = [f"--{name}", *([flags.SHORT[name]] if name in flags.SHORT else [])]
        parser.add_argument(*names, choices=flags.CHOICES.get(name), **rest)

    for name in flags.WHOLE:
        add(name, type=_whole)
    for name in flags.INTEGERS:
        add(name, type=int)
    for name in flags.FLOATS:
        add(name, type=float)
    for name in flags.LISTS:
        add(name, nargs="+", type=int if name == "cudagraph-capture-sizes" else str)
    for name in flags.TEXTS:
        add(name)
    parser.add_argument("--kv-cache-dtype", choices=flags.KV_CACHE_TYPES)
    for name in flags.SWITCHES:
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
    for name in flags.PLAIN_SWITCHES:
        parser.add_argument(f"--{name}", action="store_true")
    return parser


def parse_command(arguments: list[str], program: str = PROGRAM) -> ServeCommand:
    """Read ``serve MODEL ...``, ``MODEL ...`` or ``--model MODEL ...``; typed options win over the YAML's.

    Raises:
        SystemExit: code 2 after a usage error on stderr, 0 after ``--help``.
    """
    if arguments[:1] == ["serve"]:
        arguments = arguments[1:]
    parser = build_parser(program)
    typed = vars(parser.parse_args([_dashed(argument) for argument in arguments]))
    if "config" in typed:
        words = _words_of_file(parser, Path(typed["config"]))
        typed = {**vars(parser.parse_args(words)), **typed}
    named = {name.replace("_", "-"): value for name, value in typed.items() if value is not None}
    model = named.pop("model-tag", None) or named.get("model")
    if model is None:
        parser.error("the following arguments are required: model_tag")
    return _command(str(model), named)


def _command(model: str, named: dict[str, Any]) -> ServeCommand:
    return ServeCommand(
        model=model,
        served_names=tuple(named.get("served-model-name", (model,))),
        host=named.get("host", "localhost"),
        port=named.get("port", 8000),
        max_num_seqs=named.get("max-num-seqs"),
        max_num_batched_tokens=named.get("max-num-batched-tokens"),
        max_model_len=named.get("max-model-len"),
        tensor_parallel_size=named.get("tensor-parallel-size", 1),
        pipeline_parallel_size=named.get("pipeline-parallel-size", 1),
        gpu_memory_utilization=named.get("gpu-memory-utilization", 0.92),
        kv_cache_memory_bytes=named.get("kv-cache-memory-bytes"),
        num_gpu_blocks_override=named.get("num-gpu-blocks-override"),
        kv_cache_dtype=named.get("kv-cache-dtype", "auto"),
        block_size=named.get("block-size", 16),
        enable_prefix_caching=named.get("enable-prefix-caching", True),
        enable_chunked_prefill=named.get("enable-chunked-prefill", True),
        enforce_eager=named.get("enforce-eager", False),
        cudagraph_capture_sizes=tuple(named.get("cudagraph-capture-sizes", ())),
        max_cudagraph_capture_size=named.get("max-cudagraph-capture-size"),
        async_scheduling=named.get("async-scheduling", True),
        stream_interval=named.get("stream-interval", 1),
        quantization=named.get("quantization"),
        disable_log_stats=named.get("disable-log-stats", False),
        typed=named,
    )


def _dashed(argument: str) -> str:
    """Accept ``--max_num_seqs`` for ``--max-num-seqs``, as vLLM's own parser does."""
    if not argument.startswith("--"):
        return argument
    name, given, value = argument.partition("=")
    return name.replace("_", "-") + given + value


def _words_of_file(parser: argparse.ArgumentParser, path: Path) -> list[str]:
    """Return a YAML file's options as command-line words; a wrong file is a usage error."""
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        parser.error(f"--config: {' '.join(str(error).split())}")
    if not isinstance(options, dict):
        parser.error("--config: the file's root must be a mapping")
    words: list[str] = []
    for name, value in options.items():
        option = _dashed(f"--{name}")
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, list):
            words += [option, *map(str, value)]
        else:
            words += [option, str(value)]
    return words
