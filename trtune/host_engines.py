"""What this host lacks to start each engine, and what to do about it: programs, containers, clusters, GPUs, keys."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.errors import EngineError, MissingProgram
from engines.registry import engine_names, get_engine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.base import Engine

DAEMON_TIMEOUT_S = 3


@dataclass(frozen=True, slots=True)
class Runtime:
    """A way to start servers other than as processes of this host.

    Attributes:
        name: `docker` or `kubernetes`.
        usable: Whether servers can be started in it from here.
        text: What was found.
        todo: What to do; empty when nothing is.
    """

    name: str
    usable: bool
    text: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class EngineState:
    """What can be done with an engine from this host.

    Attributes:
        name: The engine.
        startable: Whether a plan can start it here as things are.
        text: What there is.
        todo: What is missing, each with what to do.
    """

    name: str
    startable: bool
    text: str
    todo: tuple[str, ...] = ()


def docker_runtime() -> Runtime:
    """Whether a Docker daemon takes orders from this user; waits for one on another host for some seconds."""
    from engines.launch._docker_api import connect

    try:
        version = connect(DAEMON_TIMEOUT_S).version().get("Version", "?")
    except EngineError as error:
        return _unusable("docker", error)
    return Runtime("docker", True, f"daemon {version} at {os.environ.get('DOCKER_HOST', 'the default socket')}")


def kubernetes_runtime() -> Runtime:
    """Whether there is a configuration for a cluster; the cluster itself is not asked."""
    from engines.launch._kubernetes_api import Cluster
    from engines.launch.kubernetes_manifests import ClusterPlace

    try:
        host = Cluster(ClusterPlace()).configuration.host
    except EngineError as error:
        return _unusable("kubernetes", error)
    return Runtime("kubernetes", True, f"the current context is at {host} (not asked)")


def engine_states(runtimes: tuple[Runtime, ...], *, gpu: bool, environment: Mapping[str, str]) -> list[EngineState]:
    """Every engine.

    Args:
        runtimes: Docker and Kubernetes as found.
        gpu: Whether this host has a GPU.
        environment: Where keys are looked for.
    """
    return [_state(get_engine(name), runtimes, gpu=gpu, environment=environment) for name in engine_names()]


def _state(engine: Engine, runtimes: tuple[Runtime, ...], *, gpu: bool, environment: Mapping[str, str]) -> EngineState:
    here, found = engine.available()
    if not engine.program:
        return EngineState(engine.name, True, f"{engine.title}: {found}")
    cluster = any(runtime.usable for runtime in runtimes if runtime.name == "kubernetes" and engine.images)
    docker = any(runtime.usable for runtime in runtimes if runtime.name == "docker" and engine.images)
    todo = []
    if not (here or docker or cluster):
        todo.append(f"to start it as a process: {engine.install}" if engine.install else "")
        if engine.images:
            todo.append(f"to start it in a container ({engine.images}): see docker and kubernetes above")
    if engine.needs_gpu and not gpu and not cluster:
        todo.append("no GPU here: start it on a host with one, or name a running one by its URL")
    todo += [f"{name} is not set: export it for {purpose}" for name, purpose in engine.keys if name not in environment]
    ways = [words for words, usable in (("in Docker", docker), ("in a cluster", cluster)) if usable]
    startable = (here or docker or cluster) and (gpu or cluster or not engine.needs_gpu)
    text = found.partition("; ")[0] + (f"; can be started {' and '.join(ways)}" if ways else "")
    return EngineState(engine.name, startable, f"{engine.title}: {text}", tuple(filter(None, todo)))


def _unusable(name: str, error: EngineError) -> Runtime:
    """A way to start servers that cannot be gone, with what was found and what to do."""
    if isinstance(error, MissingProgram):
        return Runtime(name, False, f"the package {name} is not installed", _install_words(error))
    found, _, advice = str(error).partition("; ")
    return Runtime(name, False, found, advice)


def _install_words(error: MissingProgram) -> str:
    match = re.search(r"run: (.+)$", str(error))
    return match[1] if match else str(error)
