"""The command line of ``trtllm-serve`` with its usage errors, and how it merges with the YAML (contract 1.2, 1.3)."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml

from engines.simulated.start import USAGE_EXIT_CODE
from engines.simulated.trtllm.versions import V1_2, V1_3, V1_3_CLI_WINS, V1_3_LATE, ServerVersion


class ConfigFileError(Exception):
    """The YAML cannot be used; the message is the server's."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One option of ``trtllm-serve serve``.

    Attributes:
        names: spellings, the first one is the option's name.
        key: dotted ``LlmArgs`` key it sets, None when it sets none.
        kind: type of the value; ``bool`` for a switch.
        choices: allowed values, empty for any.
        added: first version that has it, None for all.
    """

    names: tuple[str, ...]
    key: str | None = None
    kind: type = str
    choices: tuple[str, ...] = ()
    added: ServerVersion | None = None


_LOG_LEVELS: Final = ("internal_error", "error", "warning", "info", "verbose", "debug", "trace")

FLAGS: Final = (
    Flag(("--tokenizer",), "tokenizer"),
    Flag(("--host",)),
    Flag(("--port",), kind=int),
    Flag(("--backend",), choices=("pytorch", "tensorrt", "trt", "_autodeploy")),
    Flag(("--log_level",), choices=_LOG_LEVELS),
    Flag(("--max_batch_size",), "max_batch_size", int),
    Flag(("--max_num_tokens",), "max_num_tokens", int),
    Flag(("--max_seq_len",), "max_seq_len", int),
    Flag(("--max_beam_width",), "max_beam_width", int),
    Flag(("--tensor_parallel_size", "--tp_size"), "tensor_parallel_size", int),
    Flag(("--pipeline_parallel_size", "--pp_size"), "pipeline_parallel_size", int),
    Flag(("--context_parallel_size", "--cp_size"), "context_parallel_size", int, added=V1_2),
    Flag(("--moe_expert_parallel_size", "--ep_size"), "moe_expert_parallel_size", int),
    Flag(("--moe_cluster_parallel_size", "--cluster_size"), "moe_cluster_parallel_size", int),
    Flag(("--gpus_per_node",), "gpus_per_node", int),
    Flag(("--kv_cache_free_gpu_memory_fraction",), "kv_cache_config.free_gpu_memory_fraction", float),
    Flag(("--free_gpu_memory_fraction",), "kv_cache_config.free_gpu_memory_fraction", float, added=V1_2),
    Flag(("--kv_cache_dtype",), "kv_cache_config.dtype", choices=("auto", "fp8", "nvfp4"), added=V1_2),
    Flag(("--enable_chunked_prefill",), "enable_chunked_prefill", bool, added=V1_2),
    Flag(("--enable_attention_dp",), "enable_attention_dp", bool, added=V1_3),
    Flag(("--num_postprocess_workers",), "num_postprocess_workers", int),
    Flag(("--num_serve_frontends",), "num_serve_frontends", int, added=V1_3_LATE),
    Flag(("--trust_remote_code",), "trust_remote_code", bool),
    Flag(("--revision", "--hf_revision"), "revision", added=V1_2),
    Flag(("--served_model_name",), added=V1_3),
    Flag(("--extra_llm_api_options",)),
    Flag(("--config",), added=V1_2),
    Flag(("--reasoning_parser",)),
    Flag(("--tool_parser",), added=V1_2),
    Flag(("--chat_template",), added=V1_2),
    Flag(("--report_addr",), added=V1_3_LATE),
    Flag(("--telemetry",), kind=bool, added=V1_3),
    Flag(("--no-telemetry",), kind=bool, added=V1_3),
)
"""The options that matter here; the contract's table in section 1.2 is longer."""


@dataclass(frozen=True, slots=True)
class ServeCommand:
    """A parsed command line.

    Attributes:
        model: MODEL as typed.
        host: address to bind.
        port: port to bind.
        backend: backend as typed.
        served_model_name: name to answer with, None for the one derived from MODEL.
        config_path: YAML file, None without one.
        report_address_path: file to write ``host:port`` to after binding, None for none.
        settings: ``LlmArgs`` values typed explicitly, nested as the YAML would nest them.
    """

    model: str
    host: str
    port: int
    backend: str
    served_model_name: str | None
    config_path: Path | None
    report_address_path: Path | None
    settings: dict[str, Any]


class _Parser(argparse.ArgumentParser):
    """Prints usage errors in the shape of the click library, which the real server uses."""

    def error(self, message: str) -> NoReturn:
        self.exit(
            USAGE_EXIT_CODE,
            f"Usage: {self.prog} [OPTIONS] MODEL\nTry '{self.prog} --help' for help.\n\nError: {message}\n",
        )


def _build_parser(version: ServerVersion) -> _Parser:
    parser = _Parser(prog="trtllm-serve serve", allow_abbrev=False)
    parser.add_argument("model", metavar="MODEL")
    for flag in FLAGS:
        if flag.added is not None and version < flag.added:
            continue
        if flag.kind is bool:
            parser.add_argument(*flag.names, action="store_true", default=None)
            continue
        choices = flag.choices or None
        if flag.names[0] == "--backend" and version >= V1_3_LATE:
            choices = ("pytorch", "_autodeploy")
        parser.add_argument(*flag.names, type=flag.kind, choices=choices)
    return parser


def parse_command(arguments: list[str], version: ServerVersion) -> ServeCommand:
    """Read ``serve MODEL ...``; the word ``serve`` may be left out.

    Raises:
        SystemExit: code 2 after a usage error on stderr, 0 after ``--help``.
    """
    if arguments[:1] == ["serve"]:
        arguments = arguments[1:]
    parser = _build_parser(version)
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"No such option: {unknown[0].split('=')[0]}")
    typed: dict[str, Any] = vars(known)
    settings: dict[str, Any] = {}
    for flag in FLAGS:
        value = typed.get(flag.names[0].removeprefix("--").replace("-", "_"))
        if flag.key is not None and value is not None:
            _set_nested(settings, flag.key, value)
    config = typed.get("config") or typed.get("extra_llm_api_options")
    report = typed.get("report_addr")
    return ServeCommand(
        model=typed["model"],
        host=typed["host"] or "localhost",
        port=8000 if typed["port"] is None else typed["port"],
        backend=typed["backend"] or "pytorch",
        served_model_name=typed.get("served_model_name"),
        config_path=Path(config) if config else None,
        report_address_path=Path(report) if report else None,
        settings=settings,
    )


def _set_nested(values: dict[str, Any], key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = value


def read_config(path: Path | None) -> dict[str, Any]:
    """Read the YAML.

    Raises:
        ConfigFileError: it cannot be read, is not YAML, or its root is not a mapping.
    """
    if path is None:
        return {}
    try:
        parsed = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigFileError(f"FileNotFoundError: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigFileError(f"yaml.scanner.ScannerError: {error}") from error
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise ConfigFileError("ValueError: Configuration file root must be a mapping.")
    return parsed


def merge_settings(
    command: dict[str, Any], config: dict[str, Any], version: ServerVersion
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Merge typed flags and YAML with the version's precedence (contract section 1.3).

    ``kv_cache_config`` and ``telemetry_config`` merge key by key; any other nested object of the YAML replaces the default
    object wholesale.

    Returns:
        The merged settings and the keys on which the loser disagreed.
    """
    winner, loser = (command, config) if version >= V1_3_CLI_WINS else (config, command)
    merged: dict[str, Any] = {**loser, **winner}
    overridden = [key for key in winner if key in loser and winner[key] != loser[key]]
    for key in ("kv_cache_config", "telemetry_config"):
        if isinstance(winner.get(key), dict) and isinstance(loser.get(key), dict):
            merged[key] = {**loser[key], **winner[key]}
    return merged, tuple(overridden)
