"""Looks at this host: what is here, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.gpu import NoGpu, open_gpu_source
from trtune import __version__
from trtune.host_engines import docker_runtime, engine_states, kubernetes_runtime
from trtune.paths import sessions_dir

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtune.host_engines import Runtime

OK, MISSING, FAULT = "ok", "missing", "fault"
OUR_PACKAGES = ("trtune", "tui", "tuner", "engines", "sessions")
OLDEST_SQLITE = (3, 35)
EXTRAS = (
    ("cluster", ("ray", "psycopg"), "trials on a Ray cluster, studies in PostgreSQL"),
    ("parquet", ("pyarrow",), "tables as Parquet"),
    ("quality", ("lm_eval",), "tasks of lm-eval in the quality gate"),
    ("report", ("resvg_py",), "reports as PNG"),
    ("serve", ("textual_serve",), "the screen in a browser"),
)
"""Extras that bring no server and no launcher: name, the modules they bring, and what they are for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        topic: What was looked at.
        state: `ok`, `missing` (something optional) or `fault` (trtune cannot work).
        text: What was found.
        todo: What is missing, each with what to do about it.
    """

    topic: str
    state: str
    text: str
    todo: tuple[str, ...] = ()


def examine() -> list[Finding]:
    """Look at everything; takes a second or two and changes nothing."""
    gpus = _gpus()
    runtimes = (docker_runtime(), kubernetes_runtime())
    return [
        _program(),
        _sqlite(),
        _names(importlib.metadata.packages_distributions()),
        _folder(),
        _clock(),
        *gpus,
        *(_extra(*extra) for extra in EXTRAS),
        *(_runtime(runtime) for runtime in runtimes),
        *_engines(runtimes, gpu=any(finding.state == OK for finding in gpus)),
    ]


def name_clashes(owners: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Our top-level packages that another installed distribution owns too.

    Args:
        owners: Distributions by top-level package, as `importlib.metadata.packages_distributions` tells.
    """
    others = {name: [owner for owner in owners.get(name, ()) if owner != "trtune"] for name in OUR_PACKAGES}
    return {name: sorted(set(found)) for name, found in others.items() if found}


def _program() -> Finding:
    return Finding("trtune", OK, f"{__version__} on Python {platform.python_version()}, {platform.platform()}")


def _sqlite() -> Finding:
    if sqlite3.sqlite_version_info[:2] < OLDEST_SQLITE:
        return Finding(
            "sqlite", FAULT, f"{sqlite3.sqlite_version} is too old; install a Python with SQLite 3.35 or newer"
        )
    return Finding("sqlite", OK, sqlite3.sqlite_version)


def _names(owners: Mapping[str, Sequence[str]]) -> Finding:
    clashes = name_clashes(owners)
    if not clashes:
        return Finding("packages", OK, "no other distribution owns a name of ours")
    told = "; ".join(f"{name} is also owned by {', '.join(found)}" for name, found in clashes.items())
    return Finding("packages", FAULT, f"{told}: install trtune in an environment of its own (uv tool install, pipx)")


def _folder() -> Finding:
    folder = sessions_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            free_gib = shutil.disk_usage(folder).free / 2**30
    except OSError as error:
        text = f"{folder} cannot be written ({error.strerror}); set TRTUNE_SESSIONS to a folder that can"
        return Finding("sessions", FAULT, text)
    return Finding("sessions", OK, f"{folder}, {free_gib:.1f} GiB free")


def _clock() -> Finding:
    if platform.system() == "Linux":
        return Finding("clock", OK, "kernel receive timestamps for plain-HTTP servers")
    return Finding(
        "clock", MISSING, "no kernel receive timestamps on this system: token times are taken when they are read"
    )


def _gpus() -> list[Finding]:
    source = open_gpu_source(None, True)
    if isinstance(source, NoGpu):
        return [Finding("gpu", MISSING, source.reason)]
    try:
        return [
            Finding(
                "gpu",
                OK,
                "; ".join((gpu.label, *gpu.notes)),
            )
            for gpu in source.gpus
        ]
    finally:
        source.close()


def _extra(name: str, modules: Sequence[str], purpose: str) -> Finding:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if not missing:
        return Finding(name, OK, purpose)
    return Finding(name, MISSING, f"{purpose}: not installed", (f"pip install 'trtune[{name}]'",))


def _runtime(runtime: Runtime) -> Finding:
    todo = (runtime.todo,) if runtime.todo else ()
    return Finding(runtime.name, OK if runtime.usable else MISSING, runtime.text, todo)


def _engines(runtimes: tuple[Runtime, ...], *, gpu: bool) -> list[Finding]:
    findings = [
        Finding(engine.name, OK if engine.startable else MISSING, engine.text, engine.todo)
        for engine in engine_states(runtimes, gpu=gpu, environment=os.environ)
    ]
    if os.environ.get("SSH_CONNECTION"):
        findings.append(Finding("ssh", OK, "this terminal is remote: the screen draws twice a second"))
    return findings
