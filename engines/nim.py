"""NVIDIA NIM for LLMs (contract nim): 1.x with settings in variables, 2.x and 3.x with flags of the engine inside."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from engines import vllm
from engines._flags import check_arguments, flag_words
from engines._http import get, get_json_or_none
from engines._knobs import check_params, plain
from engines._models_page import first_model
from engines._nim_metrics import NimReader, line_of_page
from engines._nim_profiles import NimProfile, parse_profiles, runnable
from engines._nim_tables import BY_VARIABLES, FACTS, PHASES, PROFILE, PROFILE_KNOB, Line, line_of
from engines._page_metrics import PageMetrics
from engines._prometheus import Page, parse_page
from engines.base import Engine, ServerInfo
from engines.errors import BadConfiguration, EngineError
from engines.launch.container import USUAL_SHM_SIZE_BYTES, listen_address
from engines.launch.ports import local_url
from engines.launch.spec import LaunchSpec
from engines.sglang import ENGINE as SGLANG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import aiohttp

    from engines.knob import Knob, Value
    from engines.launch.container import Container
    from engines.launch.phases import PhaseRule
    from engines.launch.spec import LaunchRequest
    from engines.sample import MetricsSource

__all__ = ["ENGINE", "PROFILE", "Line", "Nim", "NimProfile", "line_of", "parse_profiles", "runnable"]

SECRETS = ("NGC_API_KEY", "HF_TOKEN")
PROXIES = ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY")
OLD_COMMANDS = ("nim-run", "start_server.sh")
_SERVING = ("nim-serve", *OLD_COMMANDS)
LIST_PROFILES = "list-model-profiles"
OWN_OPTIONS = frozenset({"--host", "--port", "--model"})
OTHER_LINE_HINT = {
    Line.V1: "1.x takes NIM_* variables",
    Line.VARIANT: "such images ignore some of 1.x's variables",
    Line.VLLM: "2.x takes vLLM's flags",
    Line.SGLANG: "2.x with SGLang takes SGLang's flags",
}
_SELECTED = re.compile(r"[Ss]elected profile\W+([0-9a-f]{64})")


class Nim(Engine):
    """NIM for LLMs. No setting changes while it runs: every change is a new container."""

    name: ClassVar[str] = "nim"
    title: ClassVar[str] = "NVIDIA NIM"
    program: ClassVar[str] = "nim-serve"
    images: ClassVar[str] = "nim/..."
    keys: ClassVar[tuple[tuple[str, str], ...]] = (("NGC_API_KEY", "images and weights of NGC"),)
    health_path: ClassVar[str] = "/v1/health/ready"
    startup_phases: ClassVar[tuple[PhaseRule, ...]] = PHASES

    def knobs(self, version: str = "") -> tuple[Knob, ...]:
        """The knobs of a version, or of an image by its tag; those of 2.x with vLLM when neither tells the line."""
        return FACTS[line_of(version)].knobs

    def launch(self, request: LaunchRequest) -> LaunchSpec:
        """The container's variables and command.

        The keys of NGC and Hugging Face are named for the launcher to inherit and stand nowhere in the specification.

        Raises:
            BadConfiguration: If a setting is unknown to this line or out of its domain, if an argument says what a
                setting says, or if the plan's environment holds a key.
        """
        line = _line_of_request(request)
        self._check(line, request)
        host_port = listen_address(request)[1]
        port = {"NIM_SERVER_PORT": str(host_port), "NIM_HTTP_API_PORT": str(host_port)}
        profile = request.params.get(PROFILE)
        chosen = {PROFILE: str(profile)} if profile is not None else {}
        settings = _variables(line, request.params) if line in BY_VARIABLES else {}
        return LaunchSpec(
            argv=_command(line, request),
            url=local_url(request.host, request.port),
            ready_path=self.health_path,
            environment={**_model(line, request.model), **port, **chosen, **settings, **request.environment},
            failures=FACTS[line].failures,
            inherit=(*SECRETS, *PROXIES),
            container=_nim_container(request.container),
        )

    def pre_check(self, request: LaunchRequest) -> LaunchSpec | None:
        """`nim-serve --dry-run`, which resolves a configuration without loading anything (contract nim 3.3); 2.x only.

        Raises:
            BadConfiguration: As `launch`.
        """
        if _line_of_request(request) in BY_VARIABLES:
            return None
        return self.launch(replace(request, arguments=("--dry-run", *request.arguments)))

    def check_model(self, model: str) -> str | None:
        """Nothing: the image knows its model, and folders are the container's."""
        return None

    def list_profiles(self, request: LaunchRequest) -> LaunchSpec:
        """A command that prints the image's profiles and ends; `parse_profiles` reads its output.

        An image without a model of its own makes them for the model it is given.
        """
        line = _line_of_request(request)
        command = request.command[:-1] if request.command[-1:] and request.command[-1].endswith(_SERVING) else ()
        return LaunchSpec(
            argv=(*command, LIST_PROFILES),
            url=local_url(request.host, request.port),
            ready_path=self.health_path,
            environment={**_model(line, request.model), **request.environment},
            failures=FACTS[line].failures,
            inherit=(*SECRETS, *PROXIES),
            container=_nim_container(request.container),
        )

    def metrics(self, http: aiohttp.ClientSession, url: str) -> MetricsSource:
        """Reads `/v1/metrics`; `/metrics` is a 404 on later 1.x (contract nim 5.1)."""
        return PageMetrics(http, f"{url}/v1/metrics", NimReader().read, "is it a NIM for LLMs?", self.title)

    async def inspect(self, http: aiohttp.ClientSession, url: str) -> ServerInfo:
        """Version, line, profile and what can be read back of the settings (contract nim 6.4 and 7.3).

        Raises:
            Unreachable: If nobody answers.
            EngineError: If it is no NIM.
        """
        card = await first_model(http, url)
        version = await get_json_or_none(http, f"{url}/v1/version")
        metadata = await get_json_or_none(http, f"{url}/v1/metadata")
        if not isinstance(version, dict) or not isinstance(metadata, dict):
            raise EngineError(f"{url} is not a NIM: it has no /v1/version and /v1/metadata")
        release = str(version.get("release") or metadata.get("version") or "")
        answer = await get(http, f"{url}/v1/metrics")
        page = parse_page(answer.text(), answer.url) if answer.status == 200 else Page()
        line = line_of_page(page) or line_of(release)
        effective = vllm.settings_of_page(page) if line is Line.VLLM else {}
        if card.context_tokens and line is not Line.SGLANG:
            effective["NIM_MAX_MODEL_LEN" if line in BY_VARIABLES else "max-model-len"] = card.context_tokens
        if isinstance(profile := metadata.get("selectedModelProfileId"), str) and PROFILE_KNOB.allows(profile):
            effective[PROFILE] = profile
        return ServerInfo(release, card.name, effective, (f"NIM {line.value}",))

    def available(self) -> tuple[bool, str]:
        """Whether this is a NIM's own container."""
        if shutil.which(self.program):
            return True, f"this is a NIM container: {self.program} is here"
        return False, "this is no NIM container; a running NIM can be watched and measured all the same"

    def effective_from_log(self, lines: Sequence[str]) -> dict[str, Value]:
        """The profile that was chosen, and what the engine inside prints of its settings."""
        effective = vllm.ENGINE.effective_from_log(lines)
        for line in lines:
            if match := _SELECTED.search(line):
                effective[PROFILE] = match[1]
        return effective

    def starting_points(self, concurrency: float) -> tuple[dict[str, Value], ...]:
        """Those of vLLM, for 2.x; 1.x is searched by profile and has none of its own."""
        return vllm.ENGINE.starting_points(concurrency)

    def conflicts(self, params: Mapping[str, Value]) -> str | None:
        """Conflicts of the engine inside, and of the variables of 1.x."""
        if params.get("NIM_ENABLE_KV_CACHE_HOST_OFFLOAD") and not params.get("NIM_ENABLE_KV_CACHE_REUSE"):
            return "NIM_ENABLE_KV_CACHE_HOST_OFFLOAD needs NIM_ENABLE_KV_CACHE_REUSE"
        if params.get("NIM_NUM_KV_CACHE_SEQ_LENS") and not params.get("NIM_RELAX_MEM_CONSTRAINTS"):
            return "NIM_NUM_KV_CACHE_SEQ_LENS needs NIM_RELAX_MEM_CONSTRAINTS"
        return vllm.find_conflict(params) or SGLANG.conflicts(params)

    def _check(self, line: Line, request: LaunchRequest) -> None:
        if held := [name for name in request.environment if name in SECRETS]:
            raise BadConfiguration(
                f"environment.{held[0]} is a key and the plan is recorded: export it in the shell, the container gets it"
            )
        if line in BY_VARIABLES and request.arguments and not request.command:
            raise BadConfiguration("NIM 1.x takes no arguments: words after the image replace its own command")
        profile = request.params.get(PROFILE)
        if not PROFILE_KNOB.allows(profile):
            raise BadConfiguration(f"{PROFILE} cannot be {profile!r}; list-model-profiles prints ids and names")
        settings = {name: value for name, value in request.params.items() if name != PROFILE}
        known = {knob.name for knob in FACTS[line].knobs}
        for other, facts in FACTS.items():
            foreign = settings.keys() & {knob.name for knob in facts.knobs} - known
            if other is not line and foreign:
                raise BadConfiguration(f"NIM {line.value} has no setting {min(foreign)!r}; {OTHER_LINE_HINT[line]}")
        check_params(self.title, FACTS[line].knobs, settings)
        inside = SGLANG if line is Line.SGLANG else vllm.ENGINE
        check_arguments(request.arguments, settings, OWN_OPTIONS | inside.own_options, inside.aliases)


def _line_of_request(request: LaunchRequest) -> Line:
    told = f"{request.version} {request.container.image if request.container is not None else ''}".strip()
    if told:
        return line_of(told)
    old = any(word.endswith(OLD_COMMANDS) for word in request.command)
    return Line.V1 if old else Line.VLLM


def _command(line: Line, request: LaunchRequest) -> tuple[str, ...]:
    """On 1.x the image's own command, on 2.x `nim-serve` with the engine's flags, which win over everything else."""
    if line in BY_VARIABLES:
        return (*request.command, *request.arguments)
    facts = FACTS[line]
    metrics = ("--enable-metrics",) if line is Line.SGLANG else ()
    flags = flag_words([knob for knob in facts.knobs if knob.name != PROFILE], request.params, negated=facts.negated)
    return (*(request.command or (Nim.program,)), *metrics, *flags, *request.arguments)


def _model(line: Line, model: str) -> dict[str, str]:
    """The variable that names the model to an image that has none of its own; images with one need no name."""
    if not model:
        return {}
    return {"NIM_MODEL_NAME" if line in BY_VARIABLES else "NIM_MODEL_PATH": model}


def _variables(line: Line, params: Mapping[str, Value]) -> dict[str, str]:
    """Settings of 1.x as variables; switches are 1 and 0."""
    knobs = {knob.name: knob for knob in FACTS[line].knobs}
    shown = {name: plain(knobs[name], value) for name, value in params.items() if value is not None}
    return {name: str(int(value)) if isinstance(value, bool) else str(value) for name, value in shown.items()}


def _nim_container(container: Container | None) -> Container | None:
    """As NVIDIA's run line has it: the image's entry point, and 16 GB of shared memory unless the plan says else."""
    if container is None:
        return None
    return replace(container, keep_entrypoint=True, shm_size_bytes=container.shm_size_bytes or USUAL_SHM_SIZE_BYTES)


ENGINE = Nim()
"""What `engines.registry` finds."""
