"""The plan: what is to be run, against which server, under which load, for which objective.

These models are what the worker works from. `trtune.planfile` fills them from a TOML file and flags; the session keeps them as
JSON. Every field has a default that a demanding user would choose, or is required.
"""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 - pydantic needs it at run time
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from engines.launch.container import Container, Mount
from engines.launch.kubernetes_manifests import ClusterPlace
from tuner.goals import DEFAULT_METRIC, GoalPlan, ObjectivePlan, PlanPart, PricePlan, QualityPlan
from tuner.load.spec import Level, Limits, StopRule, Workload
from tuner.search.levels import HighestLevel, HighestListed, LevelChooser, ListedLevels
from tuner.search.objective import Objective

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_SECRET_NAME = re.compile(r"(^|_)(api_?key|key|token|secret|password|passwd|credentials?)$", re.IGNORECASE)
_SECRET_ARGUMENT = re.compile(
    r"--?([\w-]+[-_])?(api[-_]?key|secret|password|passwd|(hf|auth|access)[-_]?token)(=|$)", re.IGNORECASE
)


def is_secret_name(name: str) -> bool:
    """Whether an environment variable of that name holds a secret."""
    return _SECRET_NAME.search(name) is not None


MOST_GPUS = 1024
"""More than any host or pod has."""

KnobValue = bool | int | float | str | None


class ContainerPlan(PlanPart):
    """The container a server is started in (`launch = "docker"` or `"kubernetes"`)."""

    image: str = Field(min_length=1, description="image with its tag; it must be on the host already")
    gpus: tuple[str, ...] = Field(
        ("all",), description="indices or UUIDs of GPUs, or all; or how many, as Kubernetes wants it"
    )
    mounts: tuple[Annotated[str, Field(pattern=r"^[^:]+:/[^:]*(:ro)?$")], ...] = Field(
        (), description="folders as host:container, with :ro for read-only; volumes and claims by name"
    )
    network: Literal["host", "bridge"] = Field("host", description="the host's network, or a mapped port")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8000, description="port inside the container, with bridge")
    shm_size_bytes: Annotated[int, Field(ge=0)] = Field(0, description="size of /dev/shm; 0: the runtime's own")
    ipc: Literal["", "host", "private"] = Field(
        "", description="IPC namespace: host or private; empty: the runtime's own"
    )
    user: str = Field("", description="user and group in the container, as 1000:1000; empty: the image's own")
    keep_entrypoint: bool = Field(False, description="put the command behind the image's entrypoint, not in its place")

    @field_validator("gpus", mode="before")
    @classmethod
    def _from_number(cls, told: object) -> object:
        """A number of GPUs stands for the first ones."""
        whole = isinstance(told, int) and not isinstance(told, bool) and 0 <= told <= MOST_GPUS
        return tuple(map(str, range(told))) if isinstance(told, int) and whole else told

    def to_container(self, *, pod: bool = False) -> Container:
        """The same as the launcher takes it; a pod always has a network of its own."""
        mounts = tuple(
            Mount(source, target, read_only=mode == "ro")
            for source, target, mode in ([*mount.split(":"), ""][:3] for mount in self.mounts)
        )
        return Container(
            image=self.image,
            gpus=self.gpus,
            mounts=mounts,
            network="bridge" if pod else self.network,
            port=self.port,
            shm_size_bytes=self.shm_size_bytes,
            ipc=self.ipc,
            user=self.user,
            keep_entrypoint=self.keep_entrypoint,
        )


class ClusterPlan(PlanPart):
    """Where in a cluster servers go, and how they are reached (`launch = "kubernetes"`)."""

    namespace: str = Field("default", min_length=1, description="namespace; it must exist")
    context: str = Field("", description="context of the kubeconfig; empty: the current one, or that of this pod")
    reach: Literal["port-forward", "service"] = Field(
        "port-forward",
        description="through the API server from anywhere, at a cost in latency; or by the Service, inside the cluster",
    )
    nim_operator: bool = Field(False, description="make a NIMService of NVIDIA's NIM Operator, not a Deployment")
    nim_cache: str = Field("", description="NIMCache with the weights; one that is not there is made, and kept")
    auth_secret: str = Field("", description="Secret with NGC_API_KEY; empty: one is made from this environment")
    pull_secrets: tuple[str, ...] = Field((), description="Secrets for pulling the image")
    node_selector: dict[str, str] = Field(default_factory=dict, description="labels of the nodes to use")
    labels: dict[str, str] = Field(default_factory=dict, description="further labels on all that is made")

    def to_place(self, cache_profiles: tuple[str, ...] = ()) -> ClusterPlace:
        """The same as the launcher takes it."""
        told = self.model_dump(exclude={"reach"})
        return ClusterPlace(**told, port_forward=self.reach == "port-forward", cache_profiles=cache_profiles)


_TOLD_BY_IMAGE = ("nim", "trtllm", "trtllm_engines")
"""Engines whose settings differ by version, and whose images carry it as their tag."""


def _without_password(url: str) -> str:
    if urlsplit(url).password is not None:
        raise ValueError("it carries a password, and the plan is kept in the session: write it without")
    return url


class EnginePlan(PlanPart):
    """The server: which family, and how to reach or start it."""

    name: str = Field("trtllm", description="engine: trtllm, llamacpp, openai, ...")
    model: str = Field("", description="model name or folder, as the server takes it")
    variants: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="other checkpoints of the model, such as quantised ones, that the search may serve instead"
    )
    launch: Literal["process", "docker", "kubernetes", "attach"] = Field(
        "process", description="start it as a process, in a container or in a cluster, or use one that runs"
    )
    container: ContainerPlan | None = Field(None, description="the container, with launch = 'docker' or 'kubernetes'")
    cluster: ClusterPlan | None = Field(None, description="the place in a cluster, with launch = 'kubernetes'")
    url: str = Field("", description="base URL of a running server (attach)")
    version: str = Field("", description="version of the server, where it decides which knobs there are")
    command: tuple[str, ...] = Field(
        (),
        description="words that start the server instead of its usual program; {python}: trtune's own",
    )
    arguments: tuple[str, ...] = Field((), description="further words for its command line")
    environment: dict[str, str] = Field(default_factory=dict, description="further environment variables")
    build_cache: str = Field("", description="folder for built engines; empty: trtune's own cache folder")
    host: str = Field("127.0.0.1", description="address a started server listens on")
    start_timeout_s: Annotated[float, Field(gt=0)] = Field(1800.0, description="a start that takes longer has failed")
    api_key_env: str = Field("", description="environment variable that holds the API key; never the key itself")
    hang_timeout_s: Annotated[float, Field(gt=0)] = Field(60.0, description="no token for so long means it hangs")
    pre_check: bool = Field(
        True, description="have the server check a configuration before its start, where it can (NIM 2.x: --dry-run)"
    )

    _no_password = field_validator("url")(_without_password)

    @model_validator(mode="after")
    def _attach_needs_a_url(self) -> EnginePlan:
        if self.launch == "attach" and not self.url:
            raise ValueError("launch = 'attach' needs url, the base URL of the running server")
        if (self.launch in ("docker", "kubernetes")) != (self.container is not None):
            raise ValueError(
                "launch = 'docker' or 'kubernetes' and the table [engine.container] with its image go together"
            )
        if self.cluster is not None and self.launch != "kubernetes":
            raise ValueError("the table [engine.cluster] is for launch = 'kubernetes'")
        if self.launch != "attach" and self.url:
            raise ValueError("url is for launch = 'attach'; a started server gets a free port of its own")
        return self

    @model_validator(mode="after")
    def _variants_need_a_start(self) -> EnginePlan:
        if self.variants and (self.launch == "attach" or not self.model):
            raise ValueError("variants needs model, the unaltered one, and a launch other than 'attach'")
        return self

    @model_validator(mode="after")
    def _no_secret_and_no_trick(self) -> EnginePlan:
        for name in self.environment:
            if not _VARIABLE_NAME.fullmatch(name):
                raise ValueError(
                    f"environment: {name!r:.60} is no name of a variable: letters, digits and _ are allowed"
                )
            if is_secret_name(name):
                raise ValueError(
                    f"environment.{name} looks like a secret, and the plan is kept in the session: export it in the"
                    " shell instead, a started server inherits it"
                )
        for word in self.arguments + self.command:
            if _SECRET_ARGUMENT.match(word):
                raise ValueError(f"{word.partition('=')[0]} carries a secret: give it through the environment instead")
        return self

    @property
    def known_version(self) -> str:
        """What decides which knobs there are: the version, or the image by its tag; for NIM both."""
        image = self.container.image if self.container is not None and self.name in _TOLD_BY_IMAGE else ""
        return f"{self.version} {image}".strip() if self.name == "nim" else self.version or image


class GpuPlan(PlanPart):
    """Where GPU samples come from."""

    local: bool = Field(True, description="read this host's GPUs through NVML")
    dcgm_url: str = Field(
        "",
        description="page to read instead: dcgm-exporter's, or a Triton's metrics page; {free_port} stands for a free port",
    )
    period_s: Annotated[float, Field(ge=0.05, le=10)] = Field(0.25, description="time from one sample to the next")

    _no_password = field_validator("dcgm_url")(_without_password)


class LoadPlan(PlanPart):
    """How hard the server is asked, and for how long."""

    kind: Literal["concurrency", "rate"] = Field("concurrency", description="closed loop, or open loop")
    levels: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (8, 32), min_length=1, description="concurrent requests, or requests per second"
    )
    hosts: Annotated[int, Field(ge=0)] = Field(
        0,
        description="further hosts that send load, nodes of fleet.cluster: for a running server that one host cannot load enough",
    )
    find: bool | Literal["listed"] = Field(
        False,
        description="look for the highest load within the SLOs, between the lightest and the heaviest level; "
        '"listed": only among the levels, one by one from where the best trial so far was best',
    )
    resolution: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="how finely `find` looks, as a share")
    most_levels: Annotated[int, Field(ge=1)] = Field(6, description="levels that `find` measures at most in a trial")
    warmup_rounds: Annotated[float, Field(ge=0)] = Field(
        1.0, description="requests per concurrent one that end before the measuring window opens (closed loop)"
    )
    level_timeout_s: Annotated[float, Field(gt=0)] = Field(
        1800.0, description="a level that takes longer altogether, warm-up included, is given up"
    )
    stop: StopRule = Field(default_factory=StopRule)
    limits: Limits = Field(default_factory=Limits)

    @model_validator(mode="after")
    def _requests_at_once_are_whole(self) -> LoadPlan:
        if self.kind == "concurrency" and any(level != int(level) for level in self.levels):
            odd = next(level for level in self.levels if level != int(level))
            raise ValueError(f"levels: {odd:g} is no number of concurrent requests; rates are for kind = 'rate'")
        return self

    def chooser(self, guess: float | None = None) -> LevelChooser:
        """What chooses the levels of a trial.

        Args:
            guess: The level at which the best result is expected: where the search for the highest load begins.
        """
        values = tuple(sorted(set(self.levels)))
        if not self.find:
            return ListedLevels(values)
        if self.find == "listed":
            return HighestListed(values, guess)
        whole = self.kind == "concurrency"
        return HighestLevel(values[0], values[-1], self.resolution, self.most_levels, whole, guess)

    def lighter(self, value: float) -> float | None:
        """The next level that a trial would be measured at below a level, or None when it is the lightest."""
        values = sorted(set(self.levels))
        if self.find is not True:
            return max((each for each in values if each < value), default=None)
        below = value / (1 + self.resolution)
        below = float(int(below)) if self.kind == "concurrency" else below
        return below if below >= values[0] else None

    def stop_rule(self, level: Level, metric: str, stat: str, precision: float | None) -> StopRule:
        """The stop rule for a level: in a closed loop the burst at its beginning has passed before the window opens.

        Args:
            level: The level.
            metric: What is to be known precisely.
            stat: Statistic of it.
            precision: How precisely; only where the plan's own rule asks for no precision and no number of requests. None: the
                plan's rule alone counts.
        """
        own, changes = self.stop, dict[str, object]()
        if own.precision is None and own.max_requests is None and precision is not None:
            changes = {"precision": precision, "metric": metric, "stat": stat}
        if level.kind == "concurrency":
            rounds = round(self.warmup_rounds * level.value)
            changes["warmup_requests"] = max(own.warmup_requests, rounds)
        return own.model_copy(update=changes)


class KnobRange(PlanPart):
    """A range of numbers for a knob."""

    low: float
    high: float
    log: bool = False
    step: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _low_is_below_high(self) -> KnobRange:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low above 0, not {self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("a logarithmic range takes no step")
        return self


class SearchPlan(PlanPart):
    """How long to search, and how."""

    trials: Annotated[int, Field(ge=1)] = Field(20, description="trials at most, the baseline included")
    time_s: Annotated[float, Field(gt=0)] | None = Field(None, description="seconds at most; a begun trial ends first")
    money: Annotated[float, Field(gt=0)] | None = Field(
        None, description="money at most, by price.gpu_hour and the GPUs of each trial; a begun trial ends first"
    )
    retries: Annotated[int, Field(ge=0, le=5)] = Field(
        1, description="how often a start that failed for no reason of its configuration is tried again"
    )
    precision: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        0.02,
        description="a level ends when the objective is known to this share (95 % interval), unless load.stop says when",
    )
    proof_rounds: Annotated[int, Field(ge=0, le=20)] = Field(
        3, description="rounds at the end in which baseline and finalists run again in turn; 0: no proof"
    )
    finalists: Annotated[int, Field(ge=1, le=5)] = Field(
        2, description="configurations in the proof, beside the baseline"
    )
    drift: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.03,
        description="a round of the proof is repeated when a GPU's clock or power limit moved by more than this share",
    )
    warm_start: tuple[Path, ...] = Field(
        (), description="older sessions on the same model and GPUs, whose results are hints for this search"
    )
    sampler: Literal["roofline", "tpe", "gp", "nsga2", "random"] = Field(
        "roofline", description="roofline: the search's own; the others are Optuna's (gp needs scipy and torch)"
    )
    seed: int = Field(0, description="makes the proposals repeatable")


class FleetPlan(PlanPart):
    """Where trials run: one at a time here, side by side on this host's GPUs, or on a cluster."""

    side_by_side: Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="trials at a time at most; each has GPUs of its own, and waits until enough are free"
    )
    check_neighbours: bool = Field(
        True, description="measure first whether trials side by side disturb each other; if so, they run one by one"
    )
    cluster: str = Field("", description="Ray cluster whose nodes run the trials: ray://HOST:10001, HOST:6379 or auto")
    wait_nodes: Annotated[int, Field(ge=0)] = Field(0, description="nodes of the cluster to wait for at the start")
    study: str = Field("", description="name of the study in PostgreSQL (--storage); empty: one of the session's own")


class Plan(PlanPart):
    """Everything a session's worker needs to know."""

    name: str = Field("", description="shown with the session, and part of its file's name")
    kind: Literal["tune", "watch", "bench"] = Field("tune", description="search, only look, or measure once")
    engine: EnginePlan = Field(default_factory=EnginePlan)
    gpu: GpuPlan = Field(default_factory=GpuPlan)
    workload: Workload = Field(default_factory=Workload)
    load: LoadPlan = Field(default_factory=LoadPlan)
    objective: ObjectivePlan = Field(default_factory=ObjectivePlan)
    objectives: tuple[GoalPlan, ...] = Field((), description="several objectives at once, as [[objectives]] tables")
    price: PricePlan = Field(default_factory=PricePlan)
    quality: QualityPlan = Field(default_factory=QualityPlan)
    search: SearchPlan = Field(default_factory=SearchPlan)
    fleet: FleetPlan = Field(default_factory=FleetPlan)
    knobs: dict[str, KnobRange | tuple[KnobValue, ...] | KnobValue] = Field(
        default_factory=dict,
        description="range, list of choices, or fixed value by knob; empty: the engine's own choice",
    )
    baseline: dict[str, KnobValue] = Field(default_factory=dict, description="values other than the server's defaults")
    starting_points: tuple[dict[str, KnobValue], ...] = Field(
        (),
        description="configurations to try early, as [[starting_points]] tables; `tune --starting-points` fills them in",
    )

    @model_validator(mode="before")
    @classmethod
    def _first_of_several(cls, told: Any) -> Any:
        """With several objectives the first is the one that a trial's single score shows."""
        if not isinstance(told, dict) or not isinstance(told.get("objectives"), list | tuple) or not told["objectives"]:
            return told
        first, own = told["objectives"][0], told.get("objective", {})
        if not isinstance(first, dict) or not isinstance(own, dict):
            return told
        kept = {name: value for name, value in own.items() if name in ("slos", "preset")}
        goal = {name: value for name, value in first.items() if name in GoalPlan.model_fields}
        return {**told, "objective": {"metric": DEFAULT_METRIC, **goal, **kept}}

    @model_validator(mode="after")
    def _money_needs_a_price(self) -> Plan:
        if self.price.gpu_hour is not None:
            return self
        if self.search.money is not None:
            raise ValueError("search.money needs price.gpu_hour, the price of one GPU for an hour")
        for objective in self.to_objectives():
            for metric in (objective.metric, *(slo.metric for slo in objective.slos)):
                if metric.startswith("cost_"):
                    raise ValueError(f"{metric} needs price.gpu_hour, the price of one GPU for an hour")
        return self

    def to_objectives(self) -> tuple[Objective, ...]:
        """All objectives, as the search takes them; the SLOs hold for every one."""
        first = self.objective.to_objective()
        if len(self.objectives) < 2:
            return (first,)
        return tuple(Objective(each.metric, each.stat, each.direction, first.slos) for each in self.objectives)

    @model_validator(mode="after")
    def _load_hosts_are_nodes(self) -> Plan:
        if self.load.hosts and not self.fleet.cluster:
            raise ValueError("load.hosts are nodes of a cluster: name it in fleet.cluster (--cluster)")
        if self.load.hosts and self.engine.launch != "attach":
            raise ValueError(
                "load.hosts is for a server that runs (launch = 'attach'): servers trtune starts are loaded by their own host"
            )
        return self

    def load_hint(self) -> float:
        """Requests the server will have to hold at once at the heaviest level; for a rate, those of ten seconds."""
        heaviest = max(self.load.levels)
        return heaviest if self.load.kind == "concurrency" else heaviest * 10
