"""Triton Inference Server as an engine: one class for its three ways to run a language model (contract triton)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from engines import _triton_control as control
from engines._http import get_json_or_none
from engines._knobs import check_params
from engines._triton_metrics import METRICS_PORT_OFFSET, TritonMetrics, metrics_url
from engines._triton_repository import (
    copied_repository,
    copy_on_this_host,
    is_repository,
    model_files,
    reset_settings,
    settings_of,
    with_settings,
)
from engines.base import Engine, ServerInfo
from engines.errors import BadConfiguration, EngineError, StartFailed
from engines.failure import Failure
from engines.launch.container import listen_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from engines._triton_backends import Backend
    from engines.base import Emptied
    from engines.knob import Knob, Value
    from engines.launch.spec import LaunchRequest, LaunchSpec
    from engines.sample import MetricsSource

_FRONTS = ("ensemble", "tensorrt_llm_bls")
"""Models that clients of the C++ backend talk to; the engine's own model wants token ids."""


@dataclass(frozen=True, slots=True)
class Change:
    """How a model is given settings: with the load request, or through files that the server reads.

    Attributes:
        config: Configuration to load with; None for the one on the server's disk.
        files: Files to write before, path to text.
    """

    config: Mapping[str, Any] | None = None
    files: Mapping[Path, str] = field(default_factory=dict)


class TritonEngine(Engine):
    """A Triton whose model repository is the plan's `model`; changed settings cost an unload and a load.

    Attributes:
        backend: What runs the model.
    """

    program: ClassVar[str] = "tritonserver"
    images: ClassVar[str] = "nvidia/tritonserver:<yy.mm>-trtllm-python-py3 or -vllm-python-py3"
    request_api: ClassVar[Literal["completions", "chat", "triton"]] = "triton"
    token_prompts: ClassVar[bool] = False
    health_path: ClassVar[str] = "/v2/health/ready"
    ports: ClassVar[tuple[int, ...]] = (0, METRICS_PORT_OFFSET)
    backend: ClassVar[Backend]

    def knobs(self, version: str = "") -> tuple[Knob, ...]:
        """The backend's settings; the same for all versions known."""
        return self.backend.knobs

    def conflicts(self, params: Mapping[str, Value]) -> str | None:
        """Conflicts of the engine inside."""
        return self.backend.conflict(params) if self.backend.conflict else None

    def launch(self, request: LaunchRequest) -> LaunchSpec:
        """The command, and a copy of the repository with the settings written in when `model` is one of this host.

        Raises:
            BadConfiguration: If a setting is unknown or out of its domain, or there is no repository to write it to.
        """
        check_params(self.title, self.backend.knobs, request.params)
        repository, files = self._repository(request)
        host, port = listen_address(request)
        words = (
            *(request.command or (self.program,)),
            *("--model-repository", repository, "--model-control-mode", "explicit", "--load-model", "*"),
            *("--http-address", host, "--http-port", str(port)),
            *("--metrics-address", host, "--metrics-port", str(port + METRICS_PORT_OFFSET), "--allow-grpc", "false"),
        )
        return self.launch_spec(request, words, self.backend.failures, files=files)

    def _repository(self, request: LaunchRequest) -> tuple[str, dict[Path, str]]:
        """The folder to serve and the files to write there."""
        source = Path(request.model)
        if is_repository(source):
            target = request.work_dir / "repository"
            return str(target), copied_repository(source, target, self.backend, request.params)
        defaults = {knob.name: knob.default for knob in self.backend.knobs}
        changed = sorted(name for name, value in request.params.items() if value != defaults[name])
        if changed:
            raise BadConfiguration(
                f"{request.model} is no model repository of this host: {changed[0]} cannot be written"
            )
        return request.model, {}

    def metrics(self, http: aiohttp.ClientSession, url: str) -> MetricsSource:
        """Reads the page two ports above the API's."""
        return TritonMetrics(http, url)

    def gpu_metrics_url(self, url: str) -> str:
        """The metrics page: Triton tells of its host's GPUs beside its models (`nv_gpu_*`)."""
        return metrics_url(url)

    async def inspect(self, http: aiohttp.ClientSession, url: str) -> ServerInfo:
        """Version, the model to call, and the settings its configuration tells.

        Raises:
            Unreachable: If nobody answers.
            EngineError: If it is no Triton, or none of its models runs on this backend.
        """
        names = [row.name for row in await control.index(http, url) if row.state == "READY"]
        server = await get_json_or_none(http, f"{url}/v2")
        name, config = await self._find_model(http, url, names)
        front = next((front for front in _FRONTS if front in names), name)
        policy = config.get("model_transaction_policy")
        notes = [] if self.backend.name == "tensorrtllm" else ["this backend tells neither queue nor KV cache"]
        if not isinstance(policy, dict) or policy.get("decoupled") is not True:
            notes.append(f"model {name} is not decoupled: it cannot stream, and there is no TTFT to measure")
        version = str(server.get("version", "")) if isinstance(server, dict) else ""
        return ServerInfo(version, front, settings_of(config, self.backend), tuple(notes))

    async def _find_model(self, http: aiohttp.ClientSession, url: str, names: list[str]) -> tuple[str, dict[str, Any]]:
        for name in names:
            config = await control.config_of(http, url, name)
            if config.get("backend") == self.backend.declared and name not in _FRONTS:
                return name, config
        raise EngineError(f"{url} serves no model with backend {self.backend.declared!r}; it serves {names or 'none'}")

    def check_model(self, model: str) -> str | None:
        """Whether the folder is a model repository; one that is not on this host is the server's to find."""
        if Path(model).is_dir() and not is_repository(Path(model)):
            return f"the folder {model} is no model repository: none of its folders has a config.pbtxt"
        return None

    async def reload(
        self, http: aiohttp.ClientSession, url: str, params: Mapping[str, Value], emptied: Emptied | None = None
    ) -> None:
        """Unload the model, wait until it is gone, load it with these settings, and read them back.

        Never in place: two generations would share the GPU's memory, and the second would size its KV cache by what
        the first leaves.

        Raises:
            BadConfiguration: If a setting is unknown, or the server or its files are not ours to change.
            StartFailed: If the model does not start; the former settings are in force again.
            EngineError: If the load hangs, or other settings are in force afterwards.
            Unreachable: If nobody answers.
        """
        check_params(self.title, self.backend.knobs, params)
        names = [row.name for row in await control.index(http, url) if row.state == "READY"]
        model, before = await self._find_model(http, url, names)
        wanted, former = self._prepared(model, before, params)
        await control.unload(http, url, model)
        if emptied is not None:
            await emptied()
        try:
            await self._load(http, url, model, wanted)
        except control.LoadRefused as error:
            await self._load(http, url, model, former)
            raise StartFailed(self._failure(str(error))) from error
        told = settings_of(await control.config_of(http, url, model), self.backend)
        lost = sorted(name for name, value in params.items() if value is not None and told.get(name) != value)
        if lost:
            raise EngineError(
                f"Triton loaded model {model!r} without the new {lost[0]}: {told.get(lost[0])!r} is in force"
            )

    def _prepared(self, model: str, before: Mapping[str, Any], params: Mapping[str, Value]) -> tuple[Change, Change]:
        """What to load now, and what to load again should that fail."""
        source, folder = copy_on_this_host(before, model)
        if not self.backend.settings_file:
            fresh = reset_settings(before, self.backend, source)
            return Change(with_settings(fresh, self.backend, params)), Change(before)
        files = model_files(source, folder, self.backend, params)
        former = {path: path.read_text(encoding="utf-8") for path in files}
        return Change(files=files), Change(files=former)

    async def _load(self, http: aiohttp.ClientSession, url: str, model: str, change: Change) -> None:
        for path, text in change.files.items():
            path.write_text(text, encoding="utf-8")
        await control.load(http, url, model, change.config)

    def _failure(self, text: str) -> Failure:
        rule = next((rule for rule in self.backend.failures if rule.pattern.search(text)), None)
        if rule is None:
            return Failure("bad_config", f"the model does not start with these settings: {text[:300]}", text)
        return Failure(rule.kind, rule.explain(text), text, rule.accuses, infeasible=rule.infeasible)
