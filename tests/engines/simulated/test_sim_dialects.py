"""Every dialect as a process: it says that it is simulated, knows every fault, and stops cleanly."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engines.simulated.face import SERVER_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
REPOSITORY = ROOT / "tests" / "data" / "triton" / "engines"
MODEL = "llama-3.1-8b"
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a dialect is started, found ready, asked and measured."""

    name: str
    words: tuple[str, ...]
    ready: re.Pattern[str]
    health: str
    generate: str
    body: dict[str, Any]
    metrics: str
    metrics_url: re.Pattern[str] | None = None
    environment: dict[str, str] = field(default_factory=dict)


OPENAI_BODY = {"model": MODEL, "prompt": [1, 2, 3], "max_tokens": 64, "ignore_eos": True, "stream": True}
NIM_VARIABLES = {"NIM_MODEL_NAME": MODEL, "NIM_SERVER_PORT": "0", "NIM_MAX_MODEL_LEN": "4096"}
DIALECTS = (
    Dialect(
        "trtllm",
        (MODEL, "--host", "127.0.0.1", "--port", "0", "--max_seq_len", "4096"),
        re.compile(r"Uvicorn running on (http://\S+)"),
        "/health",
        "/v1/completions",
        OPENAI_BODY,
        "/metrics",
    ),
    Dialect(
        "vllm",
        (MODEL, "--host", "127.0.0.1", "--port", "0", "--max-model-len", "4096"),
        re.compile(r"Starting vLLM server on (http://\S+)[\s\S]*startup complete"),
        "/health",
        "/v1/completions",
        OPENAI_BODY,
        "/metrics",
    ),
    Dialect(
        "nim",
        ("--sim-version", "1.15.0"),
        re.compile(r"Serving on (http://\S+)[\s\S]*startup complete"),
        "/v1/health/ready",
        "/v1/completions",
        OPENAI_BODY,
        "/v1/metrics",
        environment=NIM_VARIABLES,
    ),
    Dialect(
        "nim",
        ("nim-serve", "--sim-version", "2.0.5"),
        re.compile(r"Serving on (http://\S+)[\s\S]*Application startup complete"),
        "/v1/health/ready",
        "/v1/completions",
        OPENAI_BODY,
        "/v1/metrics",
        environment=NIM_VARIABLES,
    ),
    Dialect(
        "triton",
        (
            "--model-repository",
            str(REPOSITORY),
            "--http-address",
            "127.0.0.1",
            "--http-port",
            "0",
            "--metrics-port",
            "0",
        ),
        re.compile(r"Started HTTPService at ([\d.:]+)[\s\S]*Started Metrics Service"),
        "/v2/health/ready",
        "/v2/models/ensemble/generate_stream",
        {"text_input": "a b c", "max_tokens": 64, "min_tokens": 64, "stream": True},
        "/metrics",
        metrics_url=re.compile(r"Started Metrics Service at ([\d.:]+)"),
    ),
)
EVERY = pytest.mark.parametrize("dialect", DIALECTS, ids=["trtllm", "vllm", "nim-1", "nim-2", "triton"])


class Server:
    """A server process and what it has printed."""

    def __init__(self, dialect: Dialect, *faults: str) -> None:
        words = [sys.executable, "-m", "engines.simulated", "serve", "--sim-dialect", dialect.name, *dialect.words]
        if dialect.words[:1] == ("nim-serve",):
            words.remove("serve")
        words += ["--sim-gpu", "h200", "--sim-time-scale", "0.0005"]
        words += [word for fault in faults for word in ("--sim-fault", fault)]
        self.process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, **dialect.environment},
        )
        self.dialect = dialect
        self.log = ""

    def wait_for(self, pattern: re.Pattern[str]) -> str:
        """Read the log until a pattern is in it, and return its group."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(TIMEOUT_S, self.process.kill)
        watchdog.start()
        try:
            while not (match := pattern.search(self.log)):
                line = self.process.stdout.readline()
                assert line, self.log
                self.log += line
        finally:
            watchdog.cancel()
        return match[1] if match.re.groups else match[0]

    def url(self, pattern: re.Pattern[str]) -> str:
        address = self.wait_for(pattern)
        return address if address.startswith("http") else f"http://{address}"

    def rest(self) -> str:
        """Read to the end of the log."""
        text, _ = self.process.communicate(timeout=TIMEOUT_S)
        self.log += text
        return self.log


@contextmanager
def running(dialect: Dialect, *faults: str) -> Iterator[tuple[Server, str]]:
    """A ready server and its URL."""
    server = Server(dialect, *faults)
    try:
        yield server, server.url(dialect.ready)
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.rest()


def ask(url: str, body: dict[str, Any] | None = None, timeout_s: float = 20.0) -> tuple[int, str, str]:
    """Status, server header and text of one request."""
    data = json.dumps(body).encode() if body is not None else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=timeout_s) as answer:
            return answer.status, answer.headers.get("Server", ""), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("Server", ""), error.read().decode()


@EVERY
def test_it_serves_says_that_it_is_simulated_and_stops_cleanly(dialect: Dialect) -> None:
    with running(dialect) as (server, url):
        health, named, _ = ask(url + dialect.health)
        streamed, _, text = ask(url + dialect.generate, dialect.body)
        _, _, status = ask(url + "/sim/status")
        metrics_url = server.url(dialect.metrics_url) if dialect.metrics_url else url
        page, _, _ = ask(metrics_url + dialect.metrics)
        server.process.send_signal(signal.SIGTERM)
        log = server.rest()

    assert (health, streamed, page, server.process.returncode) == (200, 200, 200, 0)
    assert named == SERVER_HEADER
    assert text.count("data: {") >= 64
    assert json.loads(status)["simulated"] is True
    assert "simulated" in log.splitlines()[0]


@EVERY
def test_memory_that_does_not_suffice_ends_the_start(dialect: Dialect) -> None:
    server = Server(dialect, "oom-at-start")

    log = server.rest()

    assert server.process.returncode == 1
    assert "insufficient GPU memory" in log or "No available memory for the cache blocks" in log


@EVERY
def test_a_start_that_never_ends_is_ended_by_a_signal(dialect: Dialect) -> None:
    server = Server(dialect, "never-ready")
    server.wait_for(re.compile("every figure of this server is simulated"))

    server.process.send_signal(signal.SIGTERM)
    log = server.rest()

    assert server.process.returncode in (0, -signal.SIGTERM)
    assert not re.search(dialect.ready, log)


@EVERY
def test_a_zombie_is_healthy_and_generates_nothing(dialect: Dialect) -> None:
    with running(dialect, "zombie-health") as (_, url):
        health, _, _ = ask(url + dialect.health)
        with pytest.raises(TimeoutError):
            ask(url + dialect.generate, dialect.body, 0.5)

    assert health == 200


@EVERY
def test_a_hanging_server_answers_nothing(dialect: Dialect) -> None:
    with running(dialect, "hang") as (_, url), pytest.raises(TimeoutError):
        ask(url + dialect.health, timeout_s=0.5)


@EVERY
def test_a_crash_ends_the_process_without_a_goodbye(dialect: Dialect) -> None:
    with running(dialect, "crash-at=0.1") as (server, _):
        log = server.rest()

    assert server.process.returncode == 1
    assert "simulated: crash-at" in log


@EVERY
def test_a_stream_is_cut(dialect: Dialect) -> None:
    with running(dialect, "stream-cut=3") as (_, url), pytest.raises(http.client.IncompleteRead):
        ask(url + dialect.generate, dialect.body)


@EVERY
def test_metrics_are_slow(dialect: Dialect) -> None:
    with running(dialect, "slow-metrics=30") as (server, url):
        metrics_url = server.url(dialect.metrics_url) if dialect.metrics_url else url
        with pytest.raises(TimeoutError):
            ask(metrics_url + dialect.metrics, timeout_s=0.5)


def test_an_unknown_option_of_triton_ends_with_one() -> None:
    words = [sys.executable, "-m", "engines.simulated", "--sim-dialect", "triton", "--no-such-flag"]

    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT_S, check=False)

    assert done.returncode == 1
    assert "tritonserver: unrecognized option '--no-such-flag'" in done.stderr
