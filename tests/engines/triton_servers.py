"""A real Triton and the simulated one, started on a copy of one repository; both are asked the same questions."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from .real_engines import CannotRun, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
REPOSITORY = Path(__file__).parents[1] / "data" / "triton" / "repository"
START_S = 60.0
STOP_S = 15.0
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Triton:
    """A running server."""

    url: str
    metrics_url: str
    repository: Path
    process: subprocess.Popen[bytes]
    log: Path


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def site_packages() -> Path:
    """The packages of the environment that holds the server: Triton 2.51 with its Python backend.

    Raises:
        CannotRun: If the wheel cannot be installed or has no stub for this Python.
    """
    python = environment("triton", check="import numpy")
    packages = python.parents[1] / "lib" / f"python{VERSION}" / "site-packages"
    if not (packages / "pytriton/tritonserver/python_backend_stubs" / VERSION).is_dir():
        raise CannotRun(f"the wheel has no stub for Python {VERSION}")
    return packages


def real_command(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command and environment of a real server; a folder for its backends is made.

    Raises:
        CannotRun: If there is none here.
    """
    packages = site_packages()
    tritonserver = packages / "pytriton" / "tritonserver"
    backend = folder / "backends" / "python"
    shutil.copytree(tritonserver / "backends" / "python", backend)
    stub = f"python_backend_stubs/{VERSION}/triton_python_backend_stub"
    shutil.copy(tritonserver / stub, backend)
    (backend / "triton_python_backend_stub").chmod(0o755)
    libraries = [str(packages / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR") or ""]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        "PATH": os.pathsep.join((str(packages.parents[2] / "bin"), os.environ["PATH"])),
    }
    command = [str(tritonserver / "bin" / "tritonserver"), "--backend-directory", str(folder / "backends")]
    return [*command, "--allow-gpu-metrics=false"], environment


@contextmanager
def running(folder: Path, *arguments: str, real: bool, repository: Path = REPOSITORY) -> Iterator[Triton]:
    """Start a server on a copy of a repository and stop it with all it left behind.

    Raises:
        CannotRun: If it is to be the real one and that cannot be.
    """
    models = folder / "models"
    shutil.copytree(repository, models)
    http, grpc, metrics = free_ports(3)
    command, environment = real_command(folder) if real else (_simulated_command(), dict(os.environ))
    ports = ("--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics))
    addresses = [f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")]
    words = [*command, "--model-repository", str(models), *ports, *addresses, "--exit-timeout-secs=3", *arguments]
    log = folder / "server.log"
    shared_before = _shared_memory()
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, env=environment, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{http}"
        _wait_until_ready(url, process, log)
        yield Triton(url, f"http://127.0.0.1:{metrics}", models, process, log)
    finally:
        stop(process)
        if real:
            for path in _shared_memory() - shared_before:
                path.unlink(missing_ok=True)


def _simulated_command() -> list[str]:
    words = [sys.executable, "-m", "engines.simulated", "serve", "--sim-dialect", "triton"]
    return [*words, "--sim-gpu", "h200", "--sim-time-scale", "0.005"]


def _shared_memory() -> set[Path]:
    return set(SHARED_MEMORY.glob("triton_python_backend_shm_region_*"))


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    text = log.read_text(encoding="utf-8", errors="replace")
    raise CannotRun(f"the server is not ready; its log ends with: {text[-600:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL, for the server and the stubs it started."""
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_S)
    for child in children:
        if child.is_running():
            child.kill()
