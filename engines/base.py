"""What an engine is: the facts about one family of inference servers, as data where it can be.

An engine module states its knobs, how a configuration becomes a command with its files, how the server tells that it
is ready, how its metrics map to `EngineSample`, and which log line means which failure and accuses which knob. It
defines one object `ENGINE`; `engines.registry` finds it by the module's name.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from engines._profiling import ask_profiler
from engines.errors import BadConfiguration
from engines.launch.ports import local_url
from engines.launch.spec import LaunchSpec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    import aiohttp

    from engines._profiling import Action
    from engines._recipes import Recipe
    from engines.failure import FailureRule
    from engines.knob import Knob, Value
    from engines.launch.phases import PhaseRule
    from engines.launch.spec import LaunchRequest
    from engines.sample import MetricsSource

    Emptied = Callable[[], Awaitable[None]]
    """Awaited between two configurations of a running server: returns when the memory of the former is free."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a running server told about itself.

    Attributes:
        version: Version text, or an empty string.
        model: Served model name.
        effective: Settings in force as far as they can be read back, by knob name.
        notes: Facts worth recording: metric regime, missing endpoints.
        vocabulary_size: Token ids lie below it; 0 when the server does not say.
    """

    version: str = ""
    model: str = ""
    effective: Mapping[str, Value] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    vocabulary_size: int = 0


class Engine(ABC):
    """One family of servers.

    Attributes:
        name: Name in plans and on the command line.
        title: Name as its makers write it.
        program: Program that starts it.
        request_api: Which endpoint the load goes to: one of the OpenAI API's, or Triton's `generate_stream`.
        token_prompts: Whether prompts may be sent as token ids.
        max_tokens_field: What the server calls the length limit of a request.
        continuous_usage: Whether `stream_options` takes `continuous_usage_stats`.
        health_path: Path that answers 200 while the server is well.
        profiling: What its `/start_profile` needs, in words; empty: it has none.
        attach_paths: Paths that tell it better on some servers of the family; of a server that somebody else runs the
            first one that it has is asked.
        ports: Ports a server takes, as distances from the one it is started with.
        startup_phases: Log lines that begin the phases of a start, in their order.
        install: What to do so that this host has the program.
        images: Container images of it, for a person; empty where trtune does not start it in containers.
        keys: Variables that hold keys it needs, and for what.
        needs_gpu: Whether it cannot run without a GPU.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    program: ClassVar[str]
    request_api: ClassVar[Literal["completions", "chat", "triton"]] = "completions"
    token_prompts: ClassVar[bool] = True
    max_tokens_field: ClassVar[str] = "max_tokens"
    continuous_usage: ClassVar[bool] = False
    health_path: ClassVar[str] = "/health"
    profiling: ClassVar[str] = ""
    attach_paths: ClassVar[tuple[str, ...]] = ()
    ports: ClassVar[tuple[int, ...]] = (0,)
    startup_phases: ClassVar[tuple[PhaseRule, ...]] = ()
    install: ClassVar[str] = ""
    images: ClassVar[str] = ""
    keys: ClassVar[tuple[tuple[str, str], ...]] = ()
    needs_gpu: ClassVar[bool] = True

    @abstractmethod
    def knobs(self, version: str = "") -> tuple[Knob, ...]:
        """The knobs of a server version (the newest known when empty)."""

    @abstractmethod
    def launch(self, request: LaunchRequest) -> LaunchSpec:
        """How to start a server with these settings.

        Raises:
            BadConfiguration: If a setting is unknown or out of its domain.
        """

    def launch_spec(
        self,
        request: LaunchRequest,
        words: Sequence[str],
        failures: tuple[FailureRule, ...],
        environment: Mapping[str, str] | None = None,
        files: Mapping[Path, str] | None = None,
    ) -> LaunchSpec:
        """A launch by a command line, as most servers are started: the plan's arguments come last, its variables count most.

        Args:
            request: What is to be started.
            words: Command with everything that trtune gives.
            failures: What the server's log lines mean.
            environment: Variables of the engine's own.
            files: Files to write before the start.
        """
        return LaunchSpec(
            argv=(*words, *request.arguments),
            url=local_url(request.host, request.port),
            ready_path=self.health_path,
            environment={**(environment or {}), **request.environment},
            files=files or {},
            failures=failures,
            inherit=("HF_TOKEN",),
            container=request.container,
            ports=self.ports,
        )

    @abstractmethod
    def metrics(self, http: aiohttp.ClientSession, url: str) -> MetricsSource:
        """A reader of the metrics of the server at the URL."""

    @abstractmethod
    async def inspect(self, http: aiohttp.ClientSession, url: str) -> ServerInfo:
        """Ask a running server who it is and what is in force.

        Raises:
            Unreachable: If nobody answers.
        """

    def pre_check(self, request: LaunchRequest) -> LaunchSpec | None:
        """A command that ends by itself and refuses what the server would refuse, without loading a model.

        None where the server has no such command.

        Raises:
            BadConfiguration: As `launch`.
        """
        return None

    def check_model(self, model: str) -> str | None:
        """Why a model of this host cannot be served, or None; a name that is no folder is the server's to find."""
        folder = Path(model)
        if folder.is_dir() and not (folder / "config.json").is_file():
            return f"the folder {model} has no config.json: give a folder of a Hugging Face model, or its name"
        return None

    async def reload(
        self, http: aiohttp.ClientSession, url: str, params: Mapping[str, Value], emptied: Emptied | None = None
    ) -> None:
        """Put settings in force in the running server, without a new process; for knobs whose cost is `reload`.

        Returns when the server is ready with exactly these settings; those left out are as at a start without them.

        Args:
            http: Client.
            url: Base URL of the server.
            params: Knob values.
            emptied: Awaited once the former settings are out of force and before the new ones are loaded: waits until
                the GPUs' memory is free.

        Raises:
            BadConfiguration: If the server cannot do that, or a setting is unknown or out of its domain.
            StartFailed: If the server does not start with these settings; it then serves the former ones again.
            Unreachable: If nobody answers.
        """
        raise BadConfiguration(f"{self.title} takes new settings only at its start")

    def available(self) -> tuple[bool, str]:
        """Whether this host can start such a server, and in words what there is or what to install."""
        found = shutil.which(self.program) if self.program else None
        if found:
            return True, f"{self.program} is at {found}"
        if self.program:
            return (
                False,
                f"{self.program} is not on the PATH; a running server can be watched and measured all the same",
            )
        return True, "running servers can be watched and measured"

    def effective_from_log(self, lines: Sequence[str]) -> dict[str, Value]:
        """Settings in force that only the log tells, by knob name."""
        return {}

    async def profile(
        self, http: aiohttp.ClientSession, url: str, action: Action, options: Mapping[str, object] | None = None
    ) -> str:
        """Start or stop the running server's own profiler; returns what it said, in one line.

        Args:
            http: Client.
            url: Base URL of the server.
            action: `start` or `stop`.
            options: What the server takes with a start, such as `output_dir` and `num_steps`.

        Raises:
            BadConfiguration: If this kind of server has none.
            Unreachable: If nobody answers.
            EngineError: In one line, if the server refuses.
        """
        if not self.profiling:
            raise BadConfiguration(f"{self.title} cannot be profiled while it runs: it has no /start_profile")
        return await ask_profiler(http, url, action, options or {}, self.profiling)

    def build_key(self, params: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
        """What the engine that is built depends on; configurations with the same key share one. Empty: nothing is built."""
        return ()

    def recipes(self, folder: Path) -> tuple[Recipe, ...]:
        """Configurations that the server's makers tuned and published, in a folder or checkout of theirs.

        Raises:
            BadConfiguration: If there are none, or none are known for this server.
        """
        raise self.no_recipes()

    def recipe_settings(self, recipe: Recipe, version: str = "") -> tuple[dict[str, Value], tuple[str, ...]]:
        """A recipe's settings by knob name, and the names of those that are no knob of this version.

        Raises:
            BadConfiguration: If its file cannot be read.
        """
        raise self.no_recipes()

    def no_recipes(self) -> BadConfiguration:
        """What to raise where no published configurations are known."""
        return BadConfiguration(f"no published configurations of {self.title} are known to trtune")

    def gpu_metrics_url(self, url: str) -> str:
        """Page on which the server at the URL tells of its host's GPUs itself; empty when there is none."""
        return ""

    def starting_points(self, concurrency: float) -> tuple[dict[str, Value], ...]:
        """Configurations worth trying early, best first: what upstream guides and heuristics recommend.

        Args:
            concurrency: Requests the server will have to hold at once; for open-loop load an estimate.
        """
        return ()

    def conflicts(self, params: Mapping[str, Value]) -> str | None:
        """Why these settings cannot work together, or None."""
        return None
