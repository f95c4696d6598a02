"""A container: a `docker run` line, or a compose file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.launch.container import ALL_GPUS
from engines.launch.kubernetes_manifests import file_keys
from trtune.exports.document import yaml_documents
from trtune.exports.plain import local_path, shell_words, write_files

if TYPE_CHECKING:
    from engines.launch.container import Container, Mount
    from engines.launch.spec import LaunchSpec
    from trtune.exports.winner import Winner


def docker_run(winner: Winner) -> str:
    """A shell script that writes the files and starts the container.

    Raises:
        UsageError: If no image is known.
    """
    spec, container = winner.container()
    words = ["docker", "run", "--rm", "--init", "--name", winner.name, *_gpu_words(container)]
    if container.network == "host":
        words += ["--network", "host"]
    else:
        words += [word for mapped in _published(spec, container) for word in ("--publish", mapped)]
    if container.ipc:
        words += ["--ipc", container.ipc]
    elif container.shm_size_bytes:
        words += ["--shm-size", str(container.shm_size_bytes)]
    words += [word for name, value in container.ulimits.items() for word in ("--ulimit", f"{name}={value}")]
    words += ["--user", container.user] if container.user else []
    words += [word for name in spec.inherit for word in ("--env", name)]
    words += [word for name, value in spec.environment.items() for word in ("--env", f"{name}={value}")]
    words += [word for volume in _volumes(spec, container) for word in ("--volume", volume)]
    entrypoint, command = _command(spec, container)
    words += ["--entrypoint", entrypoint] if entrypoint else []
    run = " \\\n  ".join(shell_words(tuple(part)) for part in (words, [container.image], command) if part)
    return f"#!/bin/sh\n# {winner.note()}\nset -eu\n{write_files(spec)}exec {run}\n"


def _published(spec: LaunchSpec, container: Container) -> list[str]:
    """Every port the server listens on, at the same number outside."""
    return [f"{port}:{port}" for port in (container.port + distance for distance in spec.ports)]


def compose(winner: Winner) -> str:
    """A compose file; the configuration is inside it (`configs` with `content`: Docker Compose 2.23.1 or newer).

    Raises:
        UsageError: If no image is known.
    """
    spec, container = winner.container()
    entrypoint, command = _command(spec, container)
    devices: dict[str, Any] = {"driver": "nvidia", "capabilities": ["gpu"]}
    if ALL_GPUS in container.gpus:
        devices["count"] = "all"
    else:
        devices["device_ids"] = list(container.gpus)
    server: dict[str, Any] = {"image": _escaped(container.image), "init": True, "restart": "unless-stopped"}
    if entrypoint:
        server["entrypoint"] = [_escaped(entrypoint)]
    if command:
        server["command"] = [_escaped(word) for word in command]
    if container.network == "host":
        server["network_mode"] = "host"
    else:
        server["ports"] = _published(spec, container)
    variables = [f"{name}={_escaped(value)}" for name, value in spec.environment.items()]
    keys = file_keys(spec)
    if variables or spec.inherit:
        server["environment"] = [*variables, *spec.inherit]
    if container.mounts:
        server["volumes"] = [_escaped(_mount_words(mount)) for mount in container.mounts]
    if container.ipc:
        server["ipc"] = container.ipc
    elif container.shm_size_bytes:
        server["shm_size"] = container.shm_size_bytes
    if container.ulimits:
        server["ulimits"] = dict(container.ulimits)
    if container.user:
        server["user"] = _escaped(container.user)
    if spec.files:
        server["configs"] = [{"source": key, "target": _escaped(str(path))} for path, key in keys.items()]
    if container.gpus:
        server["deploy"] = {"resources": {"reservations": {"devices": [devices]}}}
    file: dict[str, Any] = {"name": winner.name, "services": {"server": server}}
    if spec.files:
        file["configs"] = {key: {"content": _escaped(spec.files[path])} for path, key in keys.items()}
    named = [mount.source for mount in container.mounts if not mount.source.startswith(("/", "."))]
    if named:
        file["volumes"] = dict.fromkeys(named)
    needs = ["needs Docker Compose 2.23.1 or newer: its configuration stands in this file"] if spec.files else []
    return yaml_documents([file], [winner.note(), *needs])


def _escaped(text: str) -> str:
    """Compose takes a dollar sign for a variable of its own."""
    return text.replace("$", "$$")


def _command(spec: LaunchSpec, container: Container) -> tuple[str, list[str]]:
    """Entry point (empty: the image's own) and command."""
    if container.keep_entrypoint or not spec.argv:
        return "", list(spec.argv)
    return spec.argv[0], list(spec.argv[1:])


def _gpu_words(container: Container) -> list[str]:
    if not container.gpus:
        return []
    # The inner quotes are Docker's: without them it takes the comma for the end of the value.
    told = "all" if ALL_GPUS in container.gpus else f'"device={",".join(container.gpus)}"'
    return ["--gpus", told]


def _volumes(spec: LaunchSpec, container: Container) -> list[str]:
    return [*map(_mount_words, container.mounts), *(f"./{local_path(path)}:{path}:ro" for path in spec.files)]


def _mount_words(mount: Mount) -> str:
    """A mount as Docker's flag and Compose's short form have it."""
    return f"{mount.source}:{mount.target}{':ro' if mount.read_only else ''}"
