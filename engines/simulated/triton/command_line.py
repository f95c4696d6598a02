"""The command line of ``tritonserver``; a wrong option ends it with exit code 1 (seen on 2.51)."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

PROGRAM: Final = "tritonserver"
CONTROL_MODES: Final = ("none", "poll", "explicit")

_IGNORED: Final = (
    "id", "backend-directory", "grpc-port", "grpc-address", "allow-grpc", "allow-http", "allow-metrics",
    "allow-gpu-metrics", "allow-cpu-metrics", "metrics-interval-ms", "metrics-config", "strict-readiness",
    "strict-model-config", "repository-poll-secs", "log-verbose", "log-info", "log-warning", "log-error", "log-file",
    "log-format", "trace-config", "rate-limit", "cache-config", "pinned-memory-pool-byte-size",
    "cuda-memory-pool-byte-size", "backend-config", "http-thread-count", "http-restricted-api", "model-namespacing",
    "exit-on-error", "buffer-manager-thread-count", "model-load-thread-count", "min-supported-compute-capability",
)  # fmt: skip
"""Options that are accepted and have no effect here."""


@dataclass(frozen=True, slots=True)
class ServeCommand:
    """A parsed command line.

    Attributes:
        repositories: folders with models.
        control_mode: who may load and unload.
        load_models: models to load at start in explicit mode; ``*`` for all.
        http_address: address of the API.
        http_port: port of the API.
        metrics_address: address of the metrics page, None for the API's.
        metrics_port: port of the metrics page.
        exit_timeout_s: how long a stop waits.
        auto_complete_config: whether models may complete their configuration.
    """

    repositories: tuple[Path, ...]
    control_mode: str
    load_models: tuple[str, ...]
    http_address: str
    http_port: int
    metrics_address: str
    metrics_port: int
    exit_timeout_s: float
    auto_complete_config: bool


class _Parser(argparse.ArgumentParser):
    """Words a wrong option as getopt does."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        text = f"unrecognized option '{unknown}'" if message.startswith("unrecognized") else message
        self.exit(1, f"{PROGRAM}: {text}\nUsage: {PROGRAM} [options]\n")


def parse_command(arguments: list[str]) -> ServeCommand:
    """Read the options.

    Raises:
        SystemExit: code 1 after a usage error on stderr.
    """
    parser = _Parser(prog=PROGRAM, allow_abbrev=False)
    parser.add_argument("--model-repository", "--model-store", action="append", default=[], type=Path)
    parser.add_argument("--model-control-mode", default="none", choices=CONTROL_MODES)
    parser.add_argument("--load-model", action="append", default=[])
    parser.add_argument("--http-address", default="0.0.0.0")  # noqa: S104  # the server's own default
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--metrics-address")
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument("--exit-timeout-secs", type=float, default=30.0)
    parser.add_argument("--disable-auto-complete-config", action="store_true")
    for name in _IGNORED:
        parser.add_argument(f"--{name}", action="append")
    typed = parser.parse_args(arguments[1:] if arguments[:1] == ["serve"] else arguments)
    if not typed.model_repository:
        parser.error("Failed to create server: --model-repository must be specified")
    return ServeCommand(
        repositories=tuple(typed.model_repository),
        control_mode=typed.model_control_mode,
        load_models=tuple(typed.load_model),
        http_address=typed.http_address,
        http_port=typed.http_port,
        metrics_address=typed.metrics_address or typed.http_address,
        metrics_port=typed.metrics_port,
        exit_timeout_s=typed.exit_timeout_secs,
        auto_complete_config=not typed.disable_auto_complete_config,
    )
