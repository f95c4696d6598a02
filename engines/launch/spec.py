"""What is to be started, and how: what the tuner asks an engine for, and what the engine gives a launcher."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.failure import FailureRule
    from engines.knob import Value
    from engines.launch.container import Container


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What is to be started.

    Attributes:
        model: Model name or folder, as the server takes it.
        params: Knob values; those left out keep the server's default.
        host: Address to listen on.
        port: Port to listen on.
        command: Words to start the server with instead of the engine's usual program.
        arguments: Further words for the server's command line, from the plan.
        environment: Further environment variables, from the plan.
        work_dir: Folder of this start: for configuration files and logs.
        container: Container to start it in; None starts a process.
        version: Version of the server as the plan tells it; empty: the installed one, or the newest known.
        build_dir: Folder for what is built before a start and kept for the next ones.
    """

    model: str
    params: Mapping[str, Value]
    host: str
    port: int
    work_dir: Path
    command: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    container: Container | None = None
    version: str = ""
    build_dir: Path = Path("builds")


OUTPUT = "{output}"
"""Stands in a build step's command for the folder that it fills."""


@dataclass(frozen=True, slots=True)
class BuildStep:
    """A command that makes what a server needs before its start.

    Attributes:
        name: What it does: `quantize`, `build`.
        argv: Command as a list of words; `OUTPUT` stands for the folder to fill.
        output: The folder; its name tells apart whatever its content depends on. One that is there is taken as it is.
    """

    name: str
    argv: tuple[str, ...]
    output: Path


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """How to start it: everything a launcher needs.

    Attributes:
        argv: Command as a list of words; never goes through a shell.
        url: Base URL at which the server will answer.
        environment: Variables added to the launcher's own.
        files: Files to write before the start: path to text.
        ready_path: Path that answers 200 once the server is ready.
        attach_paths: Paths to ask before it of a server that somebody else runs; the first one it has counts.
        failures: Log lines that mean a failure.
        inherit: Names of variables whose values the launcher takes from its own environment. Secrets such as
            `NGC_API_KEY` go this way only: the specification is recorded, their values never are.
        container: Container to start it in, for launchers that start containers.
        cpus: The only CPUs it may use, for launchers that start processes; empty: all.
        builds: What must be made before, in this order.
        ports: Ports it listens on, as distances from the URL's: Triton serves its metrics two above its API.
    """

    argv: tuple[str, ...]
    url: str
    ready_path: str
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[Path, str] = field(default_factory=dict)
    failures: tuple[FailureRule, ...] = ()
    inherit: tuple[str, ...] = ()
    container: Container | None = None
    attach_paths: tuple[str, ...] = ()
    cpus: tuple[int, ...] = ()
    builds: tuple[BuildStep, ...] = ()
    ports: tuple[int, ...] = (0,)
