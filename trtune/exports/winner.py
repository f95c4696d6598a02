"""The trial that is exported, and how its server would be started somewhere else."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.launch.container import ALL_GPUS, USUAL_SHM_SIZE_BYTES, Container, Mount
from engines.launch.spec import LaunchRequest
from engines.registry import get_engine
from engines.triton import is_copy, portable_config
from sessions.errors import SessionError
from sessions.summary import summarise_session
from sessions.text import clean_line
from trtune.errors import UsageError
from tuner.search.problem import Meaning, meaning_of
from tuner.stored_plan import stored_plan
from tuner.variants import served

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engines.base import Engine
    from engines.launch.spec import LaunchSpec
    from sessions.reader import SessionReader
    from sessions.records import Trial
    from tuner.plan import Plan

MOST_GPUS = 4096
"""A stranger's session may ask for any number."""

CONFIG_FOLDER = Path("/etc/trtune")
"""Where configuration files lie in a container."""

ULIMITS = {"memlock": -1, "stack": 67108864}
"""As NVIDIA's run lines for their containers have it."""

USUAL_IMAGES = {
    "trtllm": "nvidia/tensorrt-llm/release:VERSION",
    "triton": "nvidia/tritonserver:VERSION-trtllm-python-py3",
    "nim": "nim/meta/llama-3.1-8b-instruct:VERSION",
    "vllm": "vllm/vllm-openai:VERSION",
    "sglang": "lmsysorg/sglang:VERSION",
    "lmdeploy": "openmmlab/lmdeploy:VERSION",
    "tgi": "huggingface/text-generation-inference:VERSION",
}
"""Named in the advice when no image is known."""

PACKAGES = {"trtllm": "tensorrt-llm", "trtllm_engines": "tensorrt-llm"}
"""Python packages whose version a session records, by the engine whose settings differ by it."""

PBTXT = "config.pbtxt"
_SIMULATED = "engines.simulated"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the one who exports says about the place it goes to.

    Attributes:
        image: Container image; empty: the plan's.
        name: Name of the service; empty: made from the model's.
        port: Port to serve on.
        gpus: GPUs of the server; 0: as many as its parallelism needs.
        url: Where the server will answer (load commands); empty: this host.
        gpus_per_node: GPUs of a host, where the server spans several.
        iterations: Iterations to record under a profiler; empty: the usual ones.
        trace: File for a trace of PyTorch's profiler; empty: none.
    """

    image: str = ""
    name: str = ""
    port: int = 8000
    gpus: int = 0
    url: str = ""
    gpus_per_node: int = 8
    iterations: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Winner:
    """A trial with what is needed to start its server again.

    Attributes:
        path: The session's path.
        trial: The trial.
        meta: Facts of the session.
        plan: Its plan.
        engine: The server's family.
        wishes: What the one who exports wants.
    """

    path: Path
    trial: Trial
    meta: Mapping[str, Any]
    plan: Plan
    engine: Engine
    wishes: Wishes = field(default_factory=Wishes)

    @property
    def simulated(self) -> bool:
        """Whether its numbers are pretended."""
        return _SIMULATED in self.plan.engine.command

    @property
    def name(self) -> str:
        """A name for the service, as Docker and Kubernetes take it."""
        told = self.wishes.name or Path(self.plan.engine.model).name or self.engine.name
        return re.sub(r"[^a-z0-9]+", "-", told.lower()).strip("-")[:50].strip("-") or "server"

    @property
    def model(self) -> str:
        """The checkpoint that the trial served: the plan's model, or a variant of it."""
        return served(self.plan.engine, self.trial.params)[0]

    @property
    def gpus(self) -> int:
        """GPUs the server needs."""
        if self.wishes.gpus:
            return self.wishes.gpus
        container = self.plan.engine.container
        if container is not None and ALL_GPUS not in container.gpus:
            return max(len(container.gpus), 1)
        meanings = (Meaning.TENSOR_PARALLEL, Meaning.PIPELINE_PARALLEL, Meaning.REPLICAS)
        return product_of(value for name, value in self.trial.params.items() if meaning_of(name) in meanings)

    def note(self) -> str:
        """One line that says where an export comes from, and what it reached."""
        objective = self.meta.get("objective", {})
        trial = self.trial
        reached = "" if trial.score is None else f": {objective.get('metric', 'score')} {trial.score:.5g}"
        unit = f" {objective['unit']}" if trial.score is not None and objective.get("unit") else ""
        said = " (SIMULATED: not measured on a real server)" if self.simulated else ""
        return clean_line(f"trtune session {self.path.name}, trial {trial.number}{reached}{unit}{said}")

    def process(self) -> LaunchSpec:
        """How to start the server as a process, its files beside it; one that lives in a container, in its container."""
        planned = self.plan.engine.container
        return self._spec(Path(), None if planned is None else self._placed(planned.to_container()))

    def container(self) -> tuple[LaunchSpec, Container]:
        """How to start it in a container, its files in CONFIG_FOLDER.

        Raises:
            UsageError: If no image is known, or the server is built on its host before it starts.
        """
        planned = self.plan.engine.container
        if planned is not None:
            container = planned.to_container()
            container = replace(container, image=self.wishes.image or container.image)
        elif self.wishes.image:
            container = Container(
                self.wishes.image,
                gpus=places(self.gpus),
                mounts=(Mount(self.model, self.model, read_only=True),) if self.model.startswith("/") else (),
                network="bridge",
                shm_size_bytes=USUAL_SHM_SIZE_BYTES,
                ipc="host",
                ulimits=ULIMITS,
            )
        else:
            usual = USUAL_IMAGES.get(self.engine.name, "NAME:TAG")
            raise UsageError(f"this form needs the container image of the server: --image {usual}")
        container = self._placed(container)
        spec = self._spec(CONFIG_FOLDER, container)
        if spec.builds:
            raise UsageError(
                f"{self.engine.title} builds an engine before it starts, and no container form does that: "
                "run --format command inside the image's container"
            )
        return spec, spec.container or container

    def _version_there(self) -> str:
        """The version that was installed on the host that tuned; empty where another program was started or none is known."""
        host = self.meta.get("host")
        packages = host.get("packages") if isinstance(host, dict) else None
        told = packages.get(PACKAGES.get(self.engine.name, "")) if isinstance(packages, dict) else None
        return told if isinstance(told, str) and not self.plan.engine.command else ""

    def _placed(self, container: Container) -> Container:
        """The container with the port and the number of GPUs that the user wants."""
        if container.network == "bridge":
            container = replace(container, port=self.wishes.port)
        return replace(container, gpus=places(self.wishes.gpus)) if self.wishes.gpus else container

    def _spec(self, folder: Path, container: Container | None) -> LaunchSpec:
        """Made anew by the engine, on the usual port and for every interface: the trial's own served this host only.

        Raises:
            UsageError: If the session's server was not started by trtune.
        """
        plan = self.plan.engine
        if plan.launch == "attach":
            raise UsageError(
                f"{self.path}: the server was started by someone else, so there is no configuration of ours"
            )
        simulated = self.simulated
        _, settings = served(plan, self.trial.params)
        spec = self.engine.launch(
            LaunchRequest(
                model=self.model,
                params=settings,
                host="0.0.0.0",  # noqa: S104 - for the user to narrow; a server nobody reaches serves nobody
                port=self.wishes.port,
                work_dir=folder,
                command=() if simulated else tuple(word.replace("{python}", "python3") for word in plan.command),
                arguments=() if simulated else plan.arguments,
                environment=plan.environment,
                container=container,
                version=plan.known_version or ("" if container is not None else self._version_there()),
            )
        )
        argv = tuple("python3" if word == sys.executable else word for word in spec.argv)
        return replace(spec, argv=argv, files={path: _portable(path, text) for path, text in spec.files.items()})


def product_of(sizes: Iterable[object]) -> int:
    """GPUs that such parallelism needs; a size that no server has is left to the engine to refuse."""
    return math.prod(int(size) for size in sizes if isinstance(size, int | float) and 1 <= size <= MOST_GPUS)


def places(count: int) -> tuple[str, ...]:
    """The first GPUs of a host.

    Raises:
        UsageError: If there are more than any server has.
    """
    if count > MOST_GPUS:
        raise UsageError(f"{count} GPUs are more than the {MOST_GPUS} that a server may have here")
    return tuple(str(place) for place in range(count))


def _portable(path: Path, text: str) -> str:
    """A file without what trtune writes into it for itself: folders of the host that tuned."""
    return portable_config(text, str(path)) if path.name == PBTXT and is_copy(text) else text


def take_winner(reader: SessionReader, number: int | None, wishes: Wishes | None = None) -> Winner:
    """The trial to export: the one that is named, else the best that meets every SLO.

    Raises:
        SessionError: If there is no such trial, or the session has no plan that can be read.
    """
    plan = stored_plan(reader)
    trial = take_trial(reader, number)
    return Winner(reader.path, trial, reader.meta(), plan, get_engine(plan.engine.name), wishes or Wishes())


def take_trial(reader: SessionReader, number: int | None) -> Trial:
    """The trial that is named, else the best that meets every SLO.

    Raises:
        SessionError: If there is none.
    """
    trials = reader.trials()
    if number is None:
        best = summarise_session(trials, reader.meta()).best
        if best is None:
            why = "meets every SLO" if any(trial.score is not None for trial in trials) else "was measured"
            raise SessionError(f"{reader.path}: no trial {why}, so there is no best one; name one with --trial")
        return best
    for trial in trials:
        if trial.number == number:
            return trial
    raise SessionError(f"{reader.path}: there is no trial {number}; there are {len(trials)}, counted from 0")
