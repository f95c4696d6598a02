"""Begins a session: writes down what is to be done, and starts the worker that does it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.gpu import NoGpu, open_gpu_source
from engines.models import ModelShapeError, load_checkpoint
from engines.registry import get_engine
from sessions.holding import is_written
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from trtune import __version__
from trtune.detect import is_simulated
from trtune.profiles import with_profiles
from tuner.budget import budget_facts
from tuner.environment import worker_environment
from tuner.errors import BadPlan, TunerError
from tuner.facts import objectives_facts
from tuner.server import auth_headers, check_plan_engine, only_client_knobs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.base import Engine
    from tuner.load.lengths import Length
    from tuner.plan import Plan

WORKER_START_S = 30.0
WORKER_END_S = 30.0

_VERSIONS_OF = ("optuna", "textual", "aiohttp", "numpy", "pandas", "nvidia-ml-py", "tensorrt-llm")


def begin_session(plan: Plan, path: Path, more: Mapping[str, Any] | None = None) -> None:
    """Check the plan against its engine and write the session's first facts.

    Args:
        plan: What is to be done.
        path: Where to record it.
        more: Further facts.

    Raises:
        BadPlan: If plan and engine do not fit.
        SessionExists: If the path is taken.
    """
    engine = get_engine(plan.engine.name)
    check_plan_engine(plan.engine, engine)
    _check_files(plan)
    _check_prefix(plan)
    plan, profiles = with_profiles(plan)
    knobs = _knob_facts(plan, engine) if plan.kind == "tune" else []
    if plan.search.warm_start:
        from tuner.warm_start import check_older_sessions  # Optuna takes half a second

        check_older_sessions(plan, _own_gpus(plan))
    facts = _facts(plan, engine, knobs)
    if profiles:
        facts["profiles"] = [asdict(profile) for profile in profiles]
    Recorder.create(path, {**facts, **(more or {})}).close()


def _check_files(plan: Plan) -> None:
    """Refuse a plan that needs a file which is not there, before a server is started for it.

    Raises:
        BadPlan: If one cannot be opened.
    """
    dataset = plan.workload.dataset
    for field, path in (("workload.dataset.path", dataset and dataset.path), ("quality.prompts", plan.quality.prompts)):
        if not path:
            continue
        try:
            Path(path).open("rb").close()
        except OSError as error:
            raise BadPlan(f"{field}: {path}: {error.strerror}") from error


def _check_prefix(plan: Plan) -> None:
    """Refuse shared beginnings that would make prompts of another length than the plan says, or none.

    Raises:
        BadPlan: If so.
    """
    workload = plan.workload
    if workload.prefix is None:
        return
    if workload.dataset is not None:
        raise BadPlan("workload.prefix: prompts of a dataset are sent as they are: leave the prefix out")
    if workload.prefix.tokens >= workload.isl.mean_tokens():
        raise BadPlan(
            f"workload.prefix.tokens = {workload.prefix.tokens} must be below workload.isl "
            f"({_length(workload.isl)}), of which it is a part"
        )


def start_worker(path: Path) -> subprocess.Popen[bytes]:
    """Start the worker of a session, out of reach of this terminal, and wait for its first sign of life.

    Interrupted while it waits, it leaves no worker that nobody knows of.

    Raises:
        TunerError: If it ends at once or gives no sign.
    """
    before = _heartbeat(path)
    with tempfile.TemporaryFile() as complaints:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tuner.worker", os.fspath(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            start_new_session=True,
            env={**os.environ, **worker_environment(os.environ)},
        )
        try:
            _await_life(worker, path, before)
        except _EndedAtOnce as error:
            complaints.seek(0)
            told = complaints.read().decode(errors="replace").strip().splitlines()
            raise TunerError(told[-1] if told else str(error)) from error
        except BaseException:
            _end(worker)
            raise
    return worker


class _EndedAtOnce(Exception):
    """The worker ended before it gave a sign of life."""


def _await_life(worker: subprocess.Popen[bytes], path: Path, before: int) -> None:
    deadline = time.monotonic() + WORKER_START_S
    while _heartbeat(path) == before:
        if worker.poll() is not None:
            raise _EndedAtOnce(f"the worker ended at once with status {worker.returncode}")
        if time.monotonic() > deadline:
            raise TunerError(f"the worker gave no sign of life within {WORKER_START_S:g} s")
        time.sleep(0.05)


def _end(worker: subprocess.Popen[bytes]) -> None:
    """End a worker in good order if it can: it may have started something by now."""
    worker.terminate()
    try:
        worker.wait(WORKER_END_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def worker_is_gone(reader: SessionReader) -> bool:
    """Whether the session's worker ended without saying so."""
    if not _is_under_way(reader) or is_written(reader.path):
        return False
    return _is_under_way(reader)  # once more: it may have ended in good order between the two looks


def _is_under_way(reader: SessionReader) -> bool:
    """Whether a worker of this host has begun and has not said that it ended."""
    status = reader.worker()
    return status is not None and not status.over and status.host == platform.node()


def _heartbeat(path: Path) -> int:
    with SessionReader(path) as reader:
        status = reader.worker()
    return 0 if status is None else status.heartbeat_utc_ns


def _knob_facts(plan: Plan, engine: Engine) -> list[dict[str, Any]]:
    from tuner.searching import knob_facts  # Optuna takes half a second: only a tuning session pays it

    facts = knob_facts(plan, engine)
    searched = {str(knob["name"]) for knob in facts if "fixed" not in knob}
    if plan.engine.launch == "attach" and not only_client_knobs(engine, plan.engine.known_version, searched):
        raise BadPlan(
            "trtune does not change the settings of a server that it did not start: use launch = 'process', 'docker' or"
            " 'kubernetes', or measure it as it is with trtune bench"
        )
    return facts


def _own_gpus(plan: Plan) -> set[str]:
    """Product names of this host's GPUs, where they are the server's; empty when they are not known."""
    source = open_gpu_source(None, plan.gpu.local)
    if isinstance(source, NoGpu):
        return set()
    names = {gpu.name for gpu in source.gpus}
    source.close()
    return names


def session_facts(plan: Plan) -> dict[str, Any]:
    """The first facts of a session for a plan that is not to be run: of an import."""
    return _facts(plan, get_engine(plan.engine.name), [])


def _facts(plan: Plan, engine: Engine, knobs: list[dict[str, Any]]) -> dict[str, Any]:
    simulated = "engines.simulated" in plan.engine.command or runs_simulated(plan)
    return {
        "kind": plan.kind,
        "name": plan.name,
        "trtune_version": __version__,
        "plan": plan.model_dump(mode="json"),
        "engine": {
            "name": engine.name,
            "title": engine.title,
            "model": plan.engine.model,
            "url": plan.engine.url,
            "version": plan.engine.version,
            "simulated": simulated,
            **_shape(plan.engine.model),
        },
        **objectives_facts(plan.to_objectives()),
        "knobs": knobs,
        "workload": {"label": workload_label(plan)},
        "budget": budget_facts(plan),
        "host": {
            "name": platform.node(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "packages": {name: version for name in _VERSIONS_OF if (version := _version(name))},
        },
    }


def runs_simulated(plan: Plan) -> bool:
    """Whether the running server that a plan names is a simulated one."""
    return plan.engine.launch == "attach" and asyncio.run(is_simulated(plan.engine.url, auth_headers(plan.engine)))


def _shape(model: str) -> dict[str, Any]:
    """What the model weighs, for MFU and MBU; nothing for one whose shape is not known."""
    try:
        checkpoint = load_checkpoint(model)
    except ModelShapeError:
        return {}
    shape = checkpoint.shape
    return {
        "shape": {
            "active_parameters": shape.active_linear_parameters + shape.vocab_size * shape.hidden_size,
            "weight_bytes": shape.weight_bytes(checkpoint.weight_precision),
            "kv_bytes_per_token": shape.kv_bytes_per_token(checkpoint.kv_precision),
        }
    }


def workload_label(plan: Plan) -> str:
    """The plan's workload and levels in words."""
    workload = plan.workload
    levels = ", ".join(f"{level:g}" for level in sorted(set(plan.load.levels)))
    source = (
        f"{workload.dataset.format} {workload.dataset.path.name}"
        if workload.dataset
        else f"ISL {_length(workload.isl)}"
    )
    highest = ", looking for the highest within the SLOs" if plan.load.find and plan.kind == "tune" else ""
    return f"{source}, OSL {_length(workload.osl)}, {plan.load.kind} {levels}{highest}"


def _length(length: Length) -> str:
    """A length distribution in words."""
    told = length.model_dump(exclude={"distribution"}, exclude_none=True)
    if set(told) == {"tokens"}:
        return str(told["tokens"])
    kind = getattr(length, "distribution", type(length).__name__.lower())
    values = " ".join(f"{name}={value}" for name, value in told.items() if not isinstance(value, list | tuple))
    return f"{kind} {values}".strip()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
