"""What an engine is: the facts about one family of inference servers, as data where it can be.

An engine module states its knobs, how a configuration becomes a command with its files, how the server tells that it
is ready, how its metrics map to `EngineSample`, and which log line means which failure and accuses which knob. It
defines one object `ENGINE`; `engines.registry` finds it by the module's name.
"""

from __future__ import annotations

import math
import re
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from engines._profiling import ask_profiler
from engines.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    import aiohttp

    from engines._profiling import Action
    from engines._recipes import Recipe
    from engines.launch.container import Container
    from engines.launch.phases import PhaseRule

Value = bool | int | float | str | None
"""Value of a knob. None stands for «left to the server»."""

Cost = Literal["build", "restart", "reload", "client"]
"""What changing a knob costs: building an engine and a start, a new server process, a reload inside it, or nothing but
another request."""

NAN = math.nan

_LIST = re.compile(r"[\w.+-]+(,[\w.+-]+)*")


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting the tuner may change.

    Attributes:
        name: Name as the server knows it; members of nested objects are joined with a dot.
        kind: Type of its values. A list is written as text, its items joined with commas; a text is a name or a path.
        default: The server's own default; None where the server decides by itself.
        low: Smallest value (int, float).
        high: Largest value (int, float).
        log: Whether the range is searched on a logarithmic scale.
        choices: Allowed values (choice), or the grid for a number.
        cost: What a change costs.
        coarse: Parallelism or precision: a change reshapes everything else.
        searched: Whether it is searched when the plan names no knobs.
        requires: Other knobs and the values of theirs under which this one has an effect.
        help: One line for a person.
        pattern: Further texts a choice takes, as a regular expression for the whole of them; empty for none but `choices`.
        both_ways: Whether too small and too large a value can both fail, as a share of memory does that either starves the KV
            cache or the activations: a failure then says nothing of larger values.
    """

    name: str
    kind: Literal["int", "float", "bool", "choice", "text", "list"]
    default: Value
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()
    cost: Cost = "restart"
    coarse: bool = False
    searched: bool = False
    requires: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    help: str = ""
    both_ways: bool = False
    pattern: str = ""

    def allows(self, value: Value) -> bool:
        """Whether the value is of the knob's type and inside its domain."""
        if value is None:
            return self.default is None
        if self.kind == "bool":
            return isinstance(value, bool)
        if self.kind == "choice":
            return any(value == choice and type(value) is type(choice) for choice in self.choices) or (
                bool(self.pattern) and isinstance(value, str) and re.fullmatch(self.pattern, value) is not None
            )
        if self.kind in ("text", "list"):
            return isinstance(value, str) and self._allows_text(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.kind == "int" and not float(value).is_integer():
            return False
        above = self.low is None or value >= self.low
        return above and (self.high is None or value <= self.high)

    def _allows_text(self, value: str) -> bool:
        if self.kind == "list":
            return _LIST.fullmatch(value) is not None
        return bool(value.strip()) and value.isprintable()


@dataclass(frozen=True, slots=True)
class FailureRule:
    """A log line that means a known failure.

    Attributes:
        kind: Short name: `out_of_memory`, `bad_config`, `port_in_use`, `no_gpu`, ...
        pattern: Searched in every log line.
        text: What it means and what to do, for a person; `{name}` stands for the pattern's group of that name.
        accuses: Knobs whose value caused it, most likely first.
        fatal: Whether the start cannot succeed after this line, so that waiting may stop.
        infeasible: Whether the configuration is to blame (and not a passing trouble such as a taken port).
    """

    kind: str
    pattern: re.Pattern[str]
    text: str
    accuses: tuple[str, ...] = ()
    fatal: bool = True
    infeasible: bool = True

    def explain(self, line: str) -> str:
        """The text with the parts of the line that it names; of the line only printable characters are taken."""
        match = self.pattern.search(line)
        groups = match.groupdict(default="?") if match else {}
        shown = {name: "".join(filter(str.isprintable, value)) for name, value in groups.items()}
        return self.text.format_map(shown) if shown else self.text


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a server did not start or did not go on.

    Attributes:
        kind: As in `FailureRule`, or `exited`, `timeout`, `died`, `hung`.
        text: One line for a person.
        line: The telling log line, or an empty string.
        accuses: Knobs to move, most likely first.
        exit_code: Exit status of the process, if it ended.
        infeasible: Whether the configuration is to blame (and not a passing trouble such as a taken port).
    """

    kind: str
    text: str
    line: str = ""
    accuses: tuple[str, ...] = ()
    exit_code: int | None = None
    infeasible: bool = True


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


@dataclass(frozen=True, slots=True)
class EngineSample:
    """What a server says about itself at one moment, in the words common to all engines. NaN: it does not say.

    Counters (`*_total`) grow since the server's start; everything else is a gauge.
    """

    running: float = NAN
    waiting: float = NAN
    paused: float = NAN
    scheduled: float = NAN
    context_requests: float = NAN
    generation_requests: float = NAN
    max_batch_size: float = NAN
    kv_used_ratio: float = NAN
    kv_capacity_tokens: float = NAN
    kv_hit_ratio: float = NAN
    kv_host_used_ratio: float = NAN
    iteration_ms: float = NAN
    gpu_step_ms: float = NAN
    context_tokens: float = NAN
    accepted_per_step: float = NAN
    queue_ms: float = NAN
    prompt_tokens_total: float = NAN
    output_tokens_total: float = NAN
    requests_total: float = NAN
    preemptions_total: float = NAN
    iterations_total: float = NAN
    lost_records_total: float = NAN
    prefill_ms: float = NAN
    decode_ms: float = NAN


class MetricsSource(Protocol):
    """Reads one server's metrics; exactly one exists per server, since some servers forget what was read."""

    async def poll(self) -> Sequence[tuple[int, EngineSample]]:
        """New samples since the last call, each with the CLOCK_MONOTONIC time in ns it belongs to, oldest first.

        Raises:
            EngineError: If the answer is not what this server's metrics look like.
        """
        ...


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
        self,
        http: aiohttp.ClientSession,
        url: str,
        params: Mapping[str, Value],
        emptied: Callable[[], Awaitable[None]] | None = None,
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
        raise BadConfiguration(f"no published configurations of {self.title} are known to trtune")

    def recipe_settings(self, recipe: Recipe, version: str = "") -> tuple[dict[str, Value], tuple[str, ...]]:
        """A recipe's settings by knob name, and the names of those that are no knob of this version.

        Raises:
            BadConfiguration: If its file cannot be read.
        """
        raise BadConfiguration(f"no published configurations of {self.title} are known to trtune")

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
