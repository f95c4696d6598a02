"""Brings up the server of a trial as the plan says, and keeps an eye on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from engines.errors import BadConfiguration
from engines.failure import Failure
from engines.gpu.nvml import check_named_gpus
from engines.launch.attach import AttachLauncher
from engines.launch.ports import free_port
from engines.launch.process import ProcessLauncher
from engines.launch.spec import LaunchRequest, LaunchSpec
from tuner.load.spec import Endpoint
from tuner.plan import ClusterPlan, is_secret_name
from tuner.variants import served

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from engines.base import Engine, ServerInfo
    from engines.knob import Value
    from engines.launch.base import Launcher, RunningServer
    from engines.launch.container import Container
    from tuner.plan import EnginePlan

CHECK_PERIOD_S = 1.0

LOOK_S = 2.0
"""How long a server that has failed a request is looked at before it is called anything but ended."""

LOOK_PERIOD_S = 0.1

USUAL_VOCABULARY = 32_000
"""Token ids below it exist in the vocabularies of nearly all models."""

_FREE_PORT = "{free_port}"
_PYTHON = "{python}"


@dataclass(frozen=True, slots=True)
class Places:
    """What is settled once per worker and the same for every start.

    Attributes:
        work_dir: Folder for configuration files and logs of the starts.
        spare_port: Stands for `{free_port}` in the plan: the simulated engine serves its pretend GPUs there. `{python}` is
            the Python that runs trtune.
        gpus: UUIDs or indices of the only GPUs a server may use; empty: all.
        cpus: The only CPUs a server may use; empty: all.
        environment: Further variables of every server here: its own caches.
    """

    work_dir: Path
    spare_port: int
    gpus: tuple[str, ...] = ()
    cpus: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """Environment variables that keep a server to its place."""
        return {**self.environment, **({"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {})}

    def fill(self, text: str) -> str:
        """A text of the plan with the port and this Python in place."""
        return text.replace(_FREE_PORT, str(self.spare_port)).replace(_PYTHON, sys.executable)


def launcher_for(plan: EnginePlan) -> Launcher:
    """The launcher a plan asks for."""
    match plan.launch:
        case "docker":
            from engines.launch.docker import DockerLauncher  # its library is an extra

            return DockerLauncher()
        case "kubernetes":
            from engines.launch.kubernetes import KubernetesLauncher  # its library is an extra

            return KubernetesLauncher((plan.cluster or ClusterPlan()).to_place())
        case "attach":
            return AttachLauncher()
        case "process":
            return ProcessLauncher()


def runs_here(plan: EnginePlan) -> bool:
    """Whether a started server runs on this host, so that this host's GPUs are its own."""
    if plan.launch == "docker":
        from engines.launch._docker_api import daemon_host

        return daemon_host() is None
    return plan.launch == "process"


def launch_spec(
    plan: EnginePlan, engine: Engine, params: Mapping[str, Value], places: Places, number: int
) -> LaunchSpec:
    """What to start for a configuration.

    Raises:
        BadConfiguration: If the engine does not take it.
    """
    if plan.launch == "attach":
        return LaunchSpec((), plan.url.rstrip("/"), engine.health_path, attach_paths=engine.attach_paths)
    spec = replace(engine.launch(launch_request(plan, engine, params, places, number)), cpus=places.cpus)
    if plan.container is not None and spec.container is None:
        raise BadConfiguration(
            f"trtune does not start {engine.title} in a container: use launch = 'process' or 'attach'"
        )
    return spec


def pre_check_spec(
    plan: EnginePlan, engine: Engine, params: Mapping[str, Value], places: Places, number: int
) -> LaunchSpec | None:
    """The command with which the server checks a configuration before it is started, where it has one.

    Raises:
        BadConfiguration: If the engine does not take it.
    """
    if plan.launch == "attach":
        return None
    return engine.pre_check(launch_request(plan, engine, params, places, number))


def launch_request(
    plan: EnginePlan, engine: Engine, params: Mapping[str, Value], places: Places, number: int
) -> LaunchRequest:
    """What is to be started for a configuration, with a folder and a free port of its own."""
    work_dir = places.work_dir / f"trial-{number}"
    work_dir.mkdir(parents=True, exist_ok=True)
    pod = plan.launch == "kubernetes"
    model, settings = served(plan, params)
    return LaunchRequest(
        model=model,
        params=settings,
        host=plan.host,
        port=free_port(plan.host, engine.ports),
        work_dir=work_dir,
        command=tuple(places.fill(word) for word in plan.command),
        arguments=tuple(places.fill(word) for word in plan.arguments),
        environment={**places.variables(), **plan.environment},
        container=_container(plan, places, pod=pod),
        version=plan.version,
        build_dir=Path(plan.build_cache).expanduser() if plan.build_cache else user_cache_path("trtune") / "engines",
    )


def _container(plan: EnginePlan, places: Places, *, pod: bool) -> Container | None:
    if plan.container is None:
        return None
    container = plan.container.to_container(pod=pod)
    return replace(container, gpus=places.gpus) if places.gpus else container


def shown_launch(spec: LaunchSpec, places: Places) -> dict[str, object]:
    """A launch as the session keeps it: reproducible, without paths that mean nothing elsewhere and without secrets."""
    work_dir = str(places.work_dir)
    hidden = {name: "(hidden)" if is_secret_name(name) else value for name, value in spec.environment.items()}
    return {
        "argv": [word.replace(work_dir, "WORK").replace(sys.executable, "python") for word in spec.argv],
        "url": spec.url,
        "environment": hidden,
        "files": {_short(path, places): text for path, text in spec.files.items()},
        "container": None if spec.container is None else asdict(spec.container),
        **({"builds": [{"name": step.name, "argv": list(step.argv)} for step in spec.builds]} if spec.builds else {}),
    }


def _short(path: Path, places: Places) -> str:
    """A file's name; below a folder of its own (a model repository) with that folder."""
    parts = path.relative_to(places.work_dir).parts[1:] if path.is_relative_to(places.work_dir) else (path.name,)
    return "/".join(parts)


def auth_headers(plan: EnginePlan) -> dict[str, str]:
    """What proves to the server that we may ask; never logged, never stored."""
    return bearer_headers(plan.api_key_env)


def bearer_headers(variable: str) -> dict[str, str]:
    """The header with the API key that an environment variable holds; none without a key."""
    key = os.environ.get(variable, "") if variable else ""
    return {"Authorization": f"Bearer {key}"} if key else {}


def endpoint_for(plan: EnginePlan, engine: Engine, url: str, info: ServerInfo) -> Endpoint:
    """How the load reaches the server."""
    return Endpoint(
        url=url,
        model=info.model or plan.model,
        api=engine.request_api,
        token_prompts=engine.token_prompts,
        vocabulary_size=info.vocabulary_size or vocabulary_of(plan.model) or USUAL_VOCABULARY,
        headers=auth_headers(plan),
        continuous_usage=engine.continuous_usage,
        max_tokens_field=engine.max_tokens_field,
    )


def vocabulary_of(model: str) -> int:
    """Size of the vocabulary of a model whose folder is on this host; 0 where that is not known.

    Ids beyond it are refused by vLLM (seen on 0.32).
    """
    try:
        told = json.loads((Path(model) / "config.json").read_text(encoding="utf-8")) if model else {}
    except (OSError, ValueError, RecursionError):
        return 0
    size = told.get("vocab_size") if isinstance(told, dict) else None
    return size if type(size) is int and size > 0 else 0


class Watchdog:
    """Looks after a running server while it is measured, and says when it is dead or hangs.

    Attributes:
        failure: What befell it, or None.
    """

    def __init__(self, server: RunningServer, http: aiohttp.ClientSession, hang_timeout_s: float, ended: asyncio.Event):
        """Begin to watch.

        Args:
            server: The server.
            http: For its health path.
            hang_timeout_s: With requests under way, no token for so long means that it hangs.
            ended: Set when the server is found dead or hanging.
        """
        self.failure: Failure | None = None
        self._server = server
        self._http = http
        self._hang_timeout_s = hang_timeout_s
        self._in_flight = 0.0
        self._tokens = -1.0
        self._moved_s = time.monotonic()
        self._deadline_s = math.inf
        self._task = asyncio.create_task(self._run(ended))

    def progress(self, in_flight: float, tokens: float) -> None:
        """Tell how the load goes: requests under way and tokens received so far in this level."""
        if tokens != self._tokens or not self._in_flight:
            self._moved_s = time.monotonic()
        self._in_flight, self._tokens = in_flight, tokens

    def level_begins(self, timeout_s: float) -> None:
        """Tell that a level begins, and how long it may take altogether: a server may be slow without ever being silent."""
        self._deadline_s = time.monotonic() + timeout_s

    def level_over(self) -> None:
        """Tell that nothing is under way."""
        self._in_flight = 0.0
        self._deadline_s = math.inf

    async def look(self) -> Failure | None:
        """Look now and not at the next turn, because something has just failed: what befell the server, or None."""
        self.failure = self.failure or await why_unwell(self._server, self._http)
        return self.failure

    async def close(self) -> None:
        """End the watch."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self, ended: asyncio.Event) -> None:
        while self.failure is None:
            await asyncio.sleep(CHECK_PERIOD_S)
            found = await self._server.check(self._http)
            if found is not None:
                found = await why_unwell(self._server, self._http) or found
            self.failure = self.failure or found or self._hang() or self._overdue()
        ended.set()

    def _hang(self) -> Failure | None:
        silent_s = time.monotonic() - self._moved_s
        if not self._in_flight or silent_s < self._hang_timeout_s:
            return None
        return Failure("hung", f"the server sent no token for {silent_s:.0f} s while requests were under way")

    def _overdue(self) -> Failure | None:
        if time.monotonic() < self._deadline_s:
            return None
        return Failure(
            "too_slow", "the level took longer than load.level_timeout_s: its warm-up or its requests never ended"
        )


async def why_unwell(server: RunningServer, http: aiohttp.ClientSession) -> Failure | None:
    """Why a server that has just failed a request or a check is not well, or None if it is.

    A server that dies closes its connections before its process has ended: so one that does not answer is looked at for a
    while, and one that answers twice is well.
    """
    deadline_s = time.monotonic() + LOOK_S
    well = 0
    while True:
        failure = await server.check(http)
        well = 0 if failure else well + 1
        if well > 1 or (failure is not None and (failure.kind != "hung" or time.monotonic() > deadline_s)):
            return failure
        await asyncio.sleep(LOOK_PERIOD_S)


def check_plan_engine(plan: EnginePlan, engine: Engine) -> None:
    """Refuse what no engine can do.

    Raises:
        BadConfiguration: If a started server is given no model, or one that it cannot serve.
        GpuUnavailable: If it names a GPU that this host does not have.
    """
    if plan.launch == "attach":
        return
    if not plan.model and plan.name != "nim":
        raise BadConfiguration("engine.model is missing: name the model or its folder, as the server takes it")
    if plan.launch == "process" and (problem := engine.check_model(plan.model)):
        raise BadConfiguration(f"engine.model: {problem}")
    if plan.launch == "process":
        visible = plan.environment.get("CUDA_VISIBLE_DEVICES", "")
        check_named_gpus([visible], "engine.environment.CUDA_VISIBLE_DEVICES")
    elif plan.container is not None and not os.environ.get("DOCKER_HOST", "").startswith("tcp"):
        check_named_gpus(plan.container.gpus, "engine.container.gpus")


def only_client_knobs(engine: Engine, version: str, names: set[str]) -> bool:
    """Whether all these settings are the client's own, so that a server that runs need not change."""
    costs = {knob.name: knob.cost for knob in engine.knobs(version)}
    return all(costs.get(name) == "client" for name in names)
