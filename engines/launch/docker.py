"""Starts a server in a Docker container, at whatever endpoint is configured (`DOCKER_HOST`, contexts aside).

Through the package `docker` (extra `trtune[docker]`), which is imported when a container is started. It is blocking, so
every call runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING

from engines.errors import BadConfiguration, CannotStart, EngineError
from engines.failure import Failure
from engines.launch._docker_api import (
    archive,
    call,
    connect,
    container_settings,
    daemon_host,
    host_settings,
    one_line,
    reachable_url,
    start_failure,
)
from engines.launch.log import LineSplitter
from engines.launch.ports import require_free
from engines.launch.remote import RemoteLog, RemoteServer, WorkloadState, run_out

if TYPE_CHECKING:
    import docker

    from engines.launch.base import Finished, LogSink
    from engines.launch.container import Container
    from engines.launch.spec import LaunchSpec

STOP_GRACE_S = 30
KILLED_EXIT_CODES = frozenset({130, 137, 143})


class DockerLauncher:
    """Starts servers as containers; an image that is not there is not fetched."""

    def __init__(self, stop_grace_s: int = STOP_GRACE_S) -> None:
        """Set how long a server may take over its end before it is killed."""
        self._stop_grace_s = stop_grace_s

    async def start(self, spec: LaunchSpec, on_log: LogSink) -> RemoteServer:
        """Start the container; does not wait until the server is ready.

        Raises:
            BadConfiguration: If the specification names no container.
            MissingProgram: If the package `docker` is not installed.
            NoRuntime: If no daemon answers, or this user may not talk to it.
            CannotStart: If the image or a GPU is not there.
            StartFailed: If the port is taken.
        """
        if spec.container is None:
            raise BadConfiguration("a Docker launch needs an image; name it in the plan")
        api = await asyncio.to_thread(connect)
        url = reachable_url(spec.url)
        if daemon_host() is None:
            require_free(url)
        workload = await self._started(api, spec, spec.container)
        log = RemoteLog(spec, on_log)
        log.follow(functools.partial(_read_log, api, workload.id))
        return RemoteServer(spec, url, workload, log)

    async def _started(self, api: docker.APIClient, spec: LaunchSpec, container: Container) -> DockerContainer:
        """The running container; one whose start is cancelled meanwhile is removed and not left behind."""
        starting = asyncio.ensure_future(asyncio.to_thread(_create_and_start, api, spec, container))
        try:
            return DockerContainer(api, await asyncio.shield(starting), self._stop_grace_s)
        except asyncio.CancelledError:
            await asyncio.wait({starting})
            if starting.exception() is None:
                await DockerContainer(api, starting.result(), 0).remove()
            raise

    async def run_to_end(self, spec: LaunchSpec, timeout_s: float) -> Finished:
        """Run a command that ends by itself, such as a dry run or a list of profiles, and remove its container.

        Raises:
            BadConfiguration, MissingProgram, NoRuntime: As `start`.
            StartFailed: As `start`, or when it has not ended within `timeout_s`.
        """
        if spec.container is None:
            raise BadConfiguration("a Docker launch needs an image; name it in the plan")
        api = await asyncio.to_thread(connect)
        workload = await self._started(api, spec, spec.container)
        log = RemoteLog(spec, lambda _: None)
        log.follow(functools.partial(_read_log, api, workload.id))
        return await run_out(workload, log, timeout_s)


class DockerContainer:
    """A container that was started here.

    Attributes:
        id: Its identifier.
    """

    def __init__(self, api: docker.APIClient, container_id: str, stop_grace_s: int) -> None:
        """Name the container."""
        self._api = api
        self.id = container_id
        self._stop_grace_s = stop_grace_s
        self._pids: tuple[int, ...] = ()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids on this host as last seen; empty when the daemon is on another one."""
        return self._pids

    async def state(self) -> WorkloadState:
        """What the daemon says.

        Raises:
            NoRuntime: If it does not answer.
        """
        return await asyncio.to_thread(self._state)

    async def remove(self) -> None:
        """Stop (SIGTERM, then SIGKILL) and remove it with its anonymous volumes.

        Raises:
            NoRuntime: If the daemon does not answer; the container may still run then.
        """
        await asyncio.to_thread(self._remove)

    def _state(self) -> WorkloadState:
        from docker.errors import NotFound

        try:
            told = call(self._api.inspect_container, self.id)["State"]
        except NotFound:
            return WorkloadState(ended=True, detail="somebody removed its container", infeasible=False)
        if told.get("Running") or told.get("Status") == "created":
            self._pids = self._host_pids()
            unhealthy = (told.get("Health") or {}).get("Status") == "unhealthy"
            return WorkloadState(unhealthy=unhealthy)
        code = told.get("ExitCode")
        self._pids = ()
        if told.get("OOMKilled"):
            return WorkloadState(True, code, "the host ran out of memory for the container")
        detail = one_line(str(told.get("Error") or ""))
        return WorkloadState(True, code, detail, infeasible=code not in KILLED_EXIT_CODES)

    def _host_pids(self) -> tuple[int, ...]:
        if daemon_host() is not None:
            return ()
        from docker.errors import APIError

        try:
            told = call(self._api.top, self.id)
        except APIError:  # it has just ended
            return ()
        column = told["Titles"].index("PID") if "PID" in told["Titles"] else 1
        return tuple(sorted(int(row[column]) for row in told["Processes"] or () if row[column].isdecimal()))

    def _remove(self) -> None:
        from docker.errors import APIError, NotFound

        with contextlib.suppress(NotFound):
            # A stop that fails is followed by a removal by force, which kills.
            with contextlib.suppress(APIError):
                call(self._api.stop, self.id, timeout=self._stop_grace_s)
            call(self._api.remove_container, self.id, force=True, v=True)
        self._pids = ()


def _create_and_start(api: docker.APIClient, spec: LaunchSpec, container: Container) -> str:
    from docker.errors import APIError, ImageNotFound

    try:
        settings = container_settings(spec, container)
        host_config = api.create_host_config(**host_settings(spec, container))
        container_id = str(call(api.create_container, host_config=host_config, **settings)["Id"])
    except ImageNotFound as error:
        text = f"image {container.image} is not on the Docker host; run: docker pull {container.image}"
        raise CannotStart(Failure("no_image", text, infeasible=False)) from error
    except APIError as error:
        raise start_failure(error) from error
    try:
        if spec.files:
            call(api.put_archive, container_id, "/", archive(spec))
        call(api.start, container_id)
    except (APIError, EngineError) as error:
        with contextlib.suppress(APIError, EngineError):
            call(api.remove_container, container_id, force=True, v=True)
        if isinstance(error, APIError):
            raise start_failure(error) from error
        raise
    return container_id


def _read_log(api: docker.APIClient, container_id: str, log: RemoteLog) -> None:
    """Feed the log until it ends; runs in a thread of its own."""
    from docker.errors import APIError

    splitter = LineSplitter()
    try:
        for part in call(api.logs, container_id, stdout=True, stderr=True, stream=True, follow=True):
            log.feed(splitter.feed(part))
    except (APIError, OSError, EngineError) as error:
        log.feed([f"trtune: the container's log ended early: {one_line(str(error))}"])
    log.feed(splitter.close())
