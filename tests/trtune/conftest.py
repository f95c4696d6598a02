"""A small, quick plan on the simulated server, and the program run as a user runs it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from sessions.reader import SessionReader

PLAN = """
name = "quick"
[engine]
name = "trtllm"
model = "llama-3.1-8b"
command = ["{python}", "-m", "engines.simulated"]
arguments = ["--sim-gpu", "h100-sxm", "--sim-time-scale", "0.001", "--sim-dcgm-port", "{{free_port}}"{more}]
start_timeout_s = 60
hang_timeout_s = 5
[gpu]
local = false
dcgm_url = "http://127.0.0.1:{{free_port}}/metrics"
[workload]
isl = 64
osl = 8
[load]
levels = [2]
[load.stop]
warmup_s = 0
min_s = 0.4
max_s = 0.8
min_requests = 2
[search]
trials = 3
proof_rounds = 0
[knobs]
max_batch_size = [1, 2, 4, 8]
"""


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Path]:
    """Writes the quick plan, with more words for the server and more tables."""

    def write(*, arguments: tuple[str, ...] = (), tables: str = "") -> Path:
        path = tmp_path / "plan.toml"
        more = "".join(f', "{word}"' for word in arguments)
        path.write_text(PLAN.format(python=sys.executable, more=more) + tables)
        return path

    return write


@pytest.fixture(autouse=True)
def sessions_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sessions folder of the test, nobody else's."""
    folder = tmp_path / "sessions"
    monkeypatch.setenv("TRTUNE_SESSIONS", str(folder))
    return folder


class Program:
    """Runs `trtune` and makes sure that nothing of it is left behind."""

    def __init__(self, session: Path) -> None:
        self.session = session
        self._running: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start the program with its output captured."""
        process = subprocess.Popen(
            [sys.executable, "-m", "trtune", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._running.append(process)
        return process

    def run(self, *arguments: str | Path, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
        """Run the program to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def worker_pid(self) -> int:
        """Process id of the session's worker."""
        with SessionReader(self.session) as reader:
            status = reader.worker()
        assert status is not None
        return status.pid

    def wait_for(self, what: Callable[[SessionReader], object], timeout_s: float = 60) -> None:
        """Wait until something is true of the session."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.session.exists():
                with SessionReader(self.session) as reader:
                    if what(reader):
                        return
            time.sleep(0.05)
        raise AssertionError(f"{self.session} never came to that state")

    def close(self) -> None:
        """End what still runs."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.wait()
        if self.session.exists():
            with SessionReader(self.session) as reader:
                status = reader.worker()
            if status is not None and psutil.pid_exists(status.pid) and status.pid != os.getpid():
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker = psutil.Process(status.pid)
                    worker.send_signal(signal.SIGTERM)
                    psutil.wait_procs([worker], timeout=30)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The program, with a session path of the test's own."""
    program = Program(tmp_path / "run.trtune")
    yield program
    program.close()


def objects(text: str) -> list[dict[str, object]]:
    """The JSON objects that a command printed, one a line."""
    return [orjson.loads(line) for line in text.splitlines()]


def relatives(pid: int) -> set[psutil.Process]:
    """A process and all its descendants that are alive now."""
    try:
        parent = psutil.Process(pid)
        return {parent, *parent.children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()
