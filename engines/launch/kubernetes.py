"""Starts a server in a Kubernetes cluster: as a Deployment with a Service, or as a NIMService of the NIM Operator.

Through the package `kubernetes` (extra `trtune[kubernetes]`), which is imported when a server is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
import uuid
from typing import TYPE_CHECKING

from engines.errors import BadConfiguration, CannotStart, EngineError, StartFailed
from engines.failure import Failure
from engines.launch import kubernetes_manifests as manifests
from engines.launch._kubernetes_api import Cluster, one_line
from engines.launch.log import LineSplitter
from engines.launch.port_forward import PortForward
from engines.launch.ports import local_url, require_free, split_url
from engines.launch.remote import RemoteLog, RemoteServer, WorkloadState, run_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.launch.base import Finished, LogSink
    from engines.launch.container import Container
    from engines.launch.kubernetes_manifests import ClusterPlace, Manifest
    from engines.launch.spec import LaunchSpec

POLL_S = 0.5
LOG_RETRY_S = 1.0
GONE_TIMEOUT_S = 120.0
CACHE_LIMIT_S = 7200.0
"""Weights of the largest models take an hour and more to download."""

CACHE_POLL_S = 5.0

HOPELESS = frozenset({"InvalidImageName", "ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError"})
"""Reasons of a waiting container that no waiting mends."""


class KubernetesLauncher:
    """Starts servers in one namespace."""

    def __init__(self, place: ClusterPlace) -> None:
        """Name the place."""
        self._place = place

    async def start(self, spec: LaunchSpec, on_log: LogSink) -> RemoteServer:
        """Make the resources; does not wait until the server is ready.

        Raises:
            BadConfiguration: If the specification cannot be run in a cluster.
            MissingProgram: If the package `kubernetes` is not installed.
            NoRuntime: If the cluster does not answer, or not to these credentials.
            StartFailed: If the cluster refuses a resource, or the local port is taken. What was made is deleted again.
        """
        container = _checked(spec)
        cluster = await asyncio.to_thread(Cluster, self._place)
        if self._place.nim_operator and self._place.nim_cache:
            await self.ensure_cache(self._place.nim_cache, container.image, self._place.cache_profiles, CACHE_LIMIT_S)
        name = _new_name()
        pod = ServerPod(cluster, name, container.port, spec.ports)
        made = self._resources(spec, container, name)
        url = await self._make(pod, made, spec.url)
        log = RemoteLog(spec, on_log)
        log.follow(functools.partial(_read_log, cluster, pod, asyncio.get_running_loop()))
        return RemoteServer(spec, url, pod, log)

    async def run_to_end(self, spec: LaunchSpec, timeout_s: float) -> Finished:
        """Run a command that ends by itself, in a pod of its own that is deleted afterwards.

        Raises:
            BadConfiguration, MissingProgram, NoRuntime, CannotStart: As `start`.
            StartFailed: As `start`, or when it has not ended within `timeout_s`.
        """
        container = _checked(spec)
        cluster = await asyncio.to_thread(Cluster, self._place)
        name = _new_name()
        pod = ServerPod(cluster, name, container.port, spec.ports)
        made, secret = self._secrets(spec, name)
        await self._make(pod, [*made, manifests.single_pod(spec, container, name, self._place, secret)], url=None)
        log = RemoteLog(spec, lambda _: None)
        log.follow(functools.partial(_read_log, cluster, pod, asyncio.get_running_loop()))
        return await run_out(pod, log, timeout_s)

    async def _make(self, pod: ServerPod, made: Sequence[Manifest], url: str | None) -> str:
        """Make the resources, in order; returns where the server will answer. What was made goes if one is refused."""
        try:
            reached = "" if url is None else await pod.reach(url)
            for manifest in made:
                await pod.make(manifest)
        except BaseException:  # cancelled too: nothing is left behind
            with contextlib.suppress(EngineError):  # what was refused first is what counts
                await pod.remove()
            raise
        return reached

    async def ensure_cache(self, name: str, image: str, profiles: tuple[str, ...], timeout_s: float) -> None:
        """Make a NIMCache, if there is none of that name, and wait until its weights are there.

        It is kept: trials come and go, the weights stay.

        Raises:
            BadConfiguration: If it is to be made and no Secret holds the NGC key.
            CannotStart: If the operator fails to fill it, or not within `timeout_s`.
            MissingProgram, NoRuntime: As `start`.
        """
        cluster = await asyncio.to_thread(Cluster, self._place)
        if not await cluster.exists("NIMCache", name):
            if not self._place.auth_secret:
                raise BadConfiguration(
                    f"NIMCache {name} is not there, and to make it auth_secret must name a Secret with the NGC key"
                )
            await cluster.create(manifests.nim_cache(image, name, self._place, profiles))
        deadline = time.monotonic() + timeout_s
        while (state := await cluster.custom_state("NIMCache", name)) != "Ready":
            if state == "Failed" or time.monotonic() > deadline:
                why = "failed" if state == "Failed" else f"is {state or 'not there'} after {timeout_s:g} s"
                text = f"NIMCache {name} {why}; see: kubectl describe nimcache {name}"
                raise CannotStart(Failure("no_weights", text, infeasible=False))
            await asyncio.sleep(min(CACHE_POLL_S, timeout_s / 10))

    def _secrets(self, spec: LaunchSpec, name: str) -> tuple[list[Manifest], str]:
        """A Secret of the inherited variables, if none is named and any has a value, and the name to use."""
        values = {variable: os.environ[variable] for variable in spec.inherit if variable in os.environ}
        if self._place.auth_secret or not values:
            return [], self._place.auth_secret
        return [manifests.secret_manifest(values, name, self._place)], name

    def _resources(self, spec: LaunchSpec, container: Container, name: str) -> list[Manifest]:
        """All that is to be made, in order."""
        place = self._place
        made, secret = self._secrets(spec, name)
        if place.nim_operator:
            if not secret:
                raise BadConfiguration("a NIMService needs the NGC key: export NGC_API_KEY, or name an auth secret")
            return [*made, manifests.nim_service(spec, container, name, place, secret)]
        if spec.files:
            made.append(manifests.config_map(spec, name, place))
        made.append(manifests.deployment(spec, container, name, place, secret))
        return [*made, manifests.service(spec, container, name, place)]


class ServerPod:
    """The pod of a server, and the resources made for it."""

    pids: tuple[int, ...] = ()

    def __init__(self, cluster: Cluster, name: str, port: int, ports: tuple[int, ...] = (0,)) -> None:
        """Name it, with its port and the distances from it of all that it listens on."""
        self._cluster = cluster
        self._name = name
        self._port = port
        self._ports = ports
        self._made: list[tuple[str, str]] = []
        self._forwards: list[PortForward] = []
        self.removed = False

    async def reach(self, url: str) -> str:
        """Where the server will answer us: at a forwarded local port, or at its Service inside the cluster.

        Raises:
            StartFailed: If the local port is taken.
        """
        place = self._cluster.place
        if not place.port_forward:
            return f"http://{self._name}.{place.namespace}.svc:{self._port}"
        host, first = split_url(url)
        for distance in self._ports:
            local = local_url(host, first + distance)
            require_free(local)
            pod_port = self._port + distance
            forward = PortForward(self._cluster.configuration, place.namespace, pod_port, self.pod_name)
            await forward.start(local)
            self._forwards.append(forward)
        return url

    async def make(self, manifest: Manifest) -> None:
        """Make a resource. It is remembered before: a call that fails on its way back may have made it.

        Raises:
            StartFailed, NoRuntime: If the cluster refuses.
        """
        self._made.append((manifest["kind"], manifest["metadata"]["name"]))
        await self._cluster.create(manifest)

    async def pod_name(self) -> str:
        """Name of the newest pod; empty when there is none."""
        try:
            pods = await self._cluster.pods(self._name)
        except EngineError:
            return ""
        return str(pods[-1]["metadata"]["name"]) if pods else ""

    async def state(self) -> WorkloadState:
        """What the cluster says of the newest pod.

        Raises:
            EngineError: If it does not answer.
        """
        made_service = ("NIMService", self._name) in self._made
        if made_service and await self._cluster.custom_state("NIMService", self._name) == "Failed":
            return WorkloadState(True, detail=f"NIMService {self._name} failed: see kubectl describe")
        pods = await self._cluster.pods(self._name)
        return pod_state(pods[-1]) if pods else WorkloadState(detail="no pod has been made yet")

    async def remove(self) -> None:
        """Delete all that was made, newest first, and wait until no pod is left: then its GPU is free.

        Raises:
            StartFailed, NoRuntime: If the cluster refuses.
        """
        self.removed = True
        for forward in self._forwards:
            await forward.close()
        had_pods = bool(self._made)
        for kind, name in reversed(self._made):
            await self._cluster.delete(kind, name)
        deadline = time.monotonic() + GONE_TIMEOUT_S
        while had_pods and await self._cluster.pods(self._name):
            if time.monotonic() > deadline:
                text = f"the pod of {self._name} does not end; see: kubectl describe pod -l app={self._name}"
                raise StartFailed(Failure("not_stopped", text, infeasible=False))
            await asyncio.sleep(POLL_S)


def pod_state(pod: Manifest) -> WorkloadState:
    """What a pod's status means for a server. A container that was restarted had ended: the cluster hides that."""
    status = _mapping(pod.get("status"))
    told = _mapping(next(iter(_list(status.get("containerStatuses"))), None))
    now, before = _mapping(told.get("state")), _mapping(told.get("lastState"))
    ended = _mapping(now.get("terminated")) or _mapping(before.get("terminated") if told.get("restartCount") else None)
    if ended:
        reason = one_line(ended.get("reason", ""))
        detail = "the pod ran out of memory" if reason == "OOMKilled" else reason
        code = ended.get("exitCode")
        return WorkloadState(True, code if isinstance(code, int) else None, detail)
    waiting = _mapping(now.get("waiting"))
    if (reason := one_line(waiting.get("reason", ""))) in HOPELESS:
        detail = f"{reason}: {one_line(waiting.get('message', ''))}"
        return WorkloadState(True, detail=detail, infeasible=False, hopeless=True)
    if status.get("phase") == "Failed":
        return WorkloadState(True, detail=one_line(status.get("reason", "")) or "its pod failed", infeasible=False)
    unplaced = [
        one_line(condition.get("message", ""))
        for condition in map(_mapping, _list(status.get("conditions")))
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False"
    ]
    return WorkloadState(detail=f"no node takes it: {unplaced[0]}" if unplaced else "")


def _new_name() -> str:
    return f"trtune-{uuid.uuid4().hex[:8]}"


def _mapping(value: object) -> Manifest:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _checked(spec: LaunchSpec) -> Container:
    if spec.container is None:
        raise BadConfiguration("a Kubernetes launch needs an image; name it in the plan")
    if spec.container.network != "bridge":
        raise BadConfiguration("a pod has a network of its own: set the container's network to bridge")
    return spec.container


def _read_log(cluster: Cluster, pod: ServerPod, loop: asyncio.AbstractEventLoop, log: RemoteLog) -> None:
    """Feed the log until it ends; runs in a thread of its own. A pod has no log before its container runs."""
    import urllib3
    from kubernetes.client import ApiException

    splitter = LineSplitter()
    response = None
    while response is None and not pod.removed:
        with contextlib.suppress(ApiException, RuntimeError):  # no log yet, or the event loop is gone
            if name := asyncio.run_coroutine_threadsafe(pod.pod_name(), loop).result():
                response = cluster.follow_log(name)
        if response is None:
            time.sleep(LOG_RETRY_S)
    try:
        for part in response.stream() if response is not None else ():
            log.feed(splitter.feed(part))
    except (urllib3.exceptions.HTTPError, OSError) as error:
        log.feed([f"trtune: the pod's log ended early: {one_line(error)}"])
    log.feed(splitter.close())
