"""Talks to a Docker daemon: what a container is made from, and what its refusals mean."""

from __future__ import annotations

import io
import os
import tarfile
import uuid
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from engines.errors import CannotStart, MissingProgram, NoRuntime, StartFailed
from engines.failure import Failure
from engines.launch.container import ALL_GPUS
from engines.launch.ports import split_url

if TYPE_CHECKING:
    import docker

    from engines.launch.container import Container
    from engines.launch.spec import LaunchSpec

LABEL = "trtune.server"
"""On every container made here; `docker ps --filter label=trtune.server` finds leftovers."""

API_TIMEOUT_S = 60
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

PORT_IN_USE = "port_in_use"

_START_FAILURES = (
    ("could not select device driver", "no_gpu", "Docker cannot give GPUs: install the NVIDIA container toolkit"),
    (
        "unsatisfied condition",
        "unsupported",
        "the driver is too old for the image: update it, or take an older image",
    ),
    ("unknown device", "no_gpu", "a GPU is not there: correct the indices or UUIDs of the plan"),
    (
        "unresolvable cdi device",
        "no_gpu",
        "a GPU is in no CDI file: correct the plan, or run nvidia-ctk cdi generate",
    ),
    ("nvidia-container-cli", "no_gpu", "Docker cannot give GPUs: check that nvidia-smi works on its host"),
    ("port is already allocated", PORT_IN_USE, "the port is taken: stop what listens there or choose another"),
    ("address already in use", PORT_IN_USE, "the port is taken: stop what listens there or choose another"),
    ("executable file not found", "bad_config", "the image has no such program: correct the plan's command"),
    ("no such file or directory", "bad_config", "the image has no such program: correct the plan's command"),
)
"""Part of Docker's text (lower case), kind of failure, what to do.

None is a tuned setting's fault; only a taken port passes by itself.
"""


def connect(timeout_s: int = API_TIMEOUT_S) -> docker.APIClient:
    """A client of the configured daemon.

    Args:
        timeout_s: How long it may take over an answer.

    Raises:
        MissingProgram: If the package `docker` is not installed.
        NoRuntime: If no daemon answers, or this user may not talk to it.
    """
    try:
        import docker
    except ImportError as error:
        raise MissingProgram("the package docker is not installed; run: pip install 'trtune[docker]'") from error
    try:
        return docker.from_env(timeout=timeout_s).api
    except docker.errors.DockerException as error:
        raise _unreachable(error) from error


def daemon_host() -> str | None:
    """Host of the daemon by `DOCKER_HOST`, or None when it is this one."""
    parts = urlsplit(os.environ.get("DOCKER_HOST", ""))
    return parts.hostname if parts.hostname and parts.hostname not in LOOPBACK else None


def reachable_url(url: str) -> str:
    """Where the server answers us: at the daemon's host when that is another one and the URL names only this one."""
    host, port = split_url(url)
    remote = daemon_host()
    return f"http://{remote}:{port}" if remote and host in LOOPBACK else url


def container_settings(spec: LaunchSpec, container: Container) -> dict[str, Any]:
    """Arguments for `create_container`, without the host configuration. The values of inherited variables go in here.

    They are in nothing that is recorded, but `docker inspect` shows them to whoever may use the daemon.
    """
    inherited = {name: os.environ[name] for name in spec.inherit if name in os.environ}
    settings: dict[str, Any] = {
        "image": container.image,
        "environment": {**inherited, **spec.environment},
        "labels": {LABEL: "1"},
        "name": f"trtune-{uuid.uuid4().hex[:12]}",
    }
    if container.user:
        settings["user"] = container.user
    if container.keep_entrypoint:
        settings["command"] = list(spec.argv) or None
    else:
        settings["entrypoint"] = list(spec.argv[:1])
        settings["command"] = list(spec.argv[1:])
    if container.network == "bridge":
        settings["ports"] = [container.port + distance for distance in spec.ports]
    return settings


def host_settings(spec: LaunchSpec, container: Container) -> dict[str, Any]:
    """Arguments for `create_host_config`."""
    from docker.types import DeviceRequest, Ulimit
    from docker.types import Mount as DockerMount

    host, port = split_url(spec.url)
    settings: dict[str, Any] = {"init": True}
    if container.network == "host":
        settings["network_mode"] = "host"
    else:
        # On another host the port must be open to us, hence on all its interfaces.
        here = daemon_host() is None
        settings["port_bindings"] = {
            container.port + distance: (host, port + distance) if here else port + distance for distance in spec.ports
        }
    if container.gpus == (ALL_GPUS,):
        settings["device_requests"] = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    elif container.gpus:
        settings["device_requests"] = [DeviceRequest(device_ids=list(container.gpus), capabilities=[["gpu"]])]
    if container.mounts:
        settings["mounts"] = [
            DockerMount(mount.target, mount.source, "bind" if mount.source.startswith("/") else "volume",
                        read_only=mount.read_only)
            for mount in container.mounts
        ]  # fmt: skip
    if container.shm_size_bytes:
        settings["shm_size"] = container.shm_size_bytes
    if container.ipc:
        settings["ipc_mode"] = container.ipc
    if container.ulimits:
        settings["ulimits"] = [Ulimit(name=name, soft=value, hard=value) for name, value in container.ulimits.items()]
    return settings


def archive(spec: LaunchSpec) -> bytes:
    """The configuration files as a tar, each at its own path: works for a daemon on another host too."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, text in spec.files.items():
            content = text.encode()
            entry = tarfile.TarInfo(str(PurePosixPath(path.absolute())).lstrip("/"))
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def call(method: Any, *arguments: Any, **named: Any) -> Any:
    """A call of the daemon.

    Raises:
        NoRuntime: If it does not answer.
        docker.errors.APIError: If it refuses.
    """
    import requests

    try:
        return method(*arguments, **named)
    except requests.exceptions.ConnectionError as error:
        raise _unreachable(error) from error
    except requests.exceptions.Timeout as error:
        raise NoRuntime(f"the Docker daemon did not answer within {API_TIMEOUT_S} s; is its host well?") from error


def _unreachable(error: Exception) -> NoRuntime:
    """Why nobody answers, by the operating system's own error inside what the libraries wrapped around it."""
    where = os.environ.get("DOCKER_HOST", "the default socket")
    cause = _os_error(error)
    if isinstance(cause, PermissionError):
        return NoRuntime(f"this user may not use Docker at {where}; join the group docker, or use a rootless daemon")
    if cause is not None:
        return NoRuntime(f"no Docker daemon answers at {where}; start it, or set DOCKER_HOST to where it listens")
    return NoRuntime(f"Docker at {where} cannot be used: {one_line(str(error))}; check DOCKER_HOST")


def _os_error(error: BaseException) -> OSError | None:
    """The innermost error of the operating system; requests itself derives from OSError, without an errno."""
    seen: list[BaseException] = [error]
    for current in seen:
        if isinstance(current, OSError) and current.errno is not None:
            return current
        inner = (current.__cause__, current.__context__, *current.args, getattr(current, "reason", None))
        seen += [one for one in inner if isinstance(one, BaseException) and all(one is not old for old in seen)]
    return None


def start_failure(error: docker.errors.APIError) -> StartFailed:
    """What a refused start means, in one line."""
    told = one_line(str(error.explanation or error))
    for part, kind, advice in _START_FAILURES:
        if part in told.lower():
            failure = Failure(kind, f"{advice} (Docker says: {told})", infeasible=False)
            return StartFailed(failure) if kind == PORT_IN_USE else CannotStart(failure)
    return StartFailed(Failure("exited", f"Docker cannot start the container: {told}", infeasible=False))


def one_line(text: str) -> str:
    """The printable characters of a daemon's text, on one line of bounded length."""
    return " ".join("".join(filter(str.isprintable, text.replace("\n", " "))).split())[:300]
