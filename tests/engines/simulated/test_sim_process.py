"""The server as a process: start, failures with their texts and exit codes, faults, clean stop."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
READY = re.compile(r"Uvicorn running on (http://\S+)")
DCGM = re.compile(r"dcgm-exporter on (http://\S+)")
TIMEOUT_S = 60


def command(*arguments: str) -> list[str]:
    """Return the command line of a server that starts in milliseconds."""
    base = [sys.executable, "-m", "engines.simulated", "serve", *arguments]
    return [*base, "--host", "127.0.0.1", "--sim-time-scale", "0.0005"]


def run_to_exit(*arguments: str) -> tuple[int, str]:
    """Run a server that ends by itself and return exit code and log."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=TIMEOUT_S, cwd=ROOT, check=False)
    return done.returncode, done.stdout + done.stderr


class Server:
    """A server process and what it has printed."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )
        self.log = ""

    def wait_for(self, pattern: re.Pattern[str]) -> str:
        """Read the log until the pattern's group appears."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(TIMEOUT_S, self.process.kill)
        watchdog.start()
        try:
            for line in self.process.stdout:
                self.log += line
                found = pattern.search(line)
                if found:
                    return found.group(1) if pattern.groups else found.group(0)
        finally:
            watchdog.cancel()
        raise AssertionError(f"the server ended without {pattern.pattern!r}:\n{self.log}")

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=TIMEOUT_S)
        self.log += output
        return self.process.returncode


@contextmanager
def started(*arguments: str) -> Iterator[Server]:
    """Run a server and leave nothing of it behind."""
    server = Server(*arguments)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()


def get(url: str, timeout_s: float = TIMEOUT_S) -> bytes:
    """Return what a GET answers."""
    with urllib.request.urlopen(url, timeout=timeout_s) as response:
        body: bytes = response.read()
        return body


def post(url: str, body: dict[str, object], timeout_s: float = TIMEOUT_S) -> bytes:
    """Return what a POST answers."""
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode()), timeout=timeout_s) as response:
        answer: bytes = response.read()
        return answer


COMPLETION: dict[str, object] = {"model": "m", "prompt": [1, 2], "max_tokens": 20, "ignore_eos": True}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_starts_answers_and_stops_with_0(number: int) -> None:
    with started("llama-3.2-1b", "--port", "0", "--sim-gpus", "2", "--sim-dcgm-port", "0") as server:
        exporter = server.wait_for(DCGM)
        url = server.wait_for(READY)

        assert server.log.splitlines()[0].count("simulated") == 2
        assert "Application startup complete." in server.log
        assert get(f"{url}/health") == b""
        assert json.loads(post(f"{url}/v1/completions", COMPLETION))["usage"]["completion_tokens"] == 20
        families = {family.name for family in text_string_to_metric_families(get(exporter).decode())}
        assert "DCGM_FI_PROF_DRAM_ACTIVE" in families
        children = psutil.Process(server.process.pid).children(recursive=True)

        assert server.stop(number) == 0
        assert children == []


def test_connections_are_refused_until_the_server_is_ready() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with started("llama-3.2-1b", "--port", str(port), "--sim-fault", "never-ready") as server:
        server.wait_for(re.compile("Model init total"))

        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            pass
        assert server.stop(signal.SIGTERM) == 0


def test_a_port_in_use_is_told_before_loading() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]

        code, log = run_to_exit("llama-3.2-1b", "--port", str(port))

    assert code == 1
    assert f"Failed to bind socket to 127.0.0.1:{port}" in log
    assert "Loading weights" not in log


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["llama-3.3-70b"], 1, "The following component could not be created: Model"),
        (["llama-3.3-70b", "--sim-gpus", "2", "--tp_size", "4"], 1, "is greater than the 2 GPUs"),
        (["llama-3.1-8b", "--sim-gpus", "8", "--tp_size", "3"], 1, "must be divisible by tensor_parallel_size"),
        (["llama-3.1-8b-fp8", "--sim-gpu", "a100-sxm"], 1, "FP8 is not supported on SM80"),
        (["gpt-9"], 1, "neither a folder with a config.json nor a known name"),
        (["llama-3.1-8b", "--sim-fault", "oom-at-start"], 1, "could not be created: KV cache"),
        (["llama-3.1-8b", "--sim-version", "latest"], 2, "is not a TensorRT-LLM version"),
        (["llama-3.1-8b", "--max_batchsize", "4"], 2, "No such option: --max_batchsize"),
        (["llama-3.1-8b", "--sim-fault", "explode"], 2, "unknown fault"),
    ],
)
def test_a_failing_start_prints_the_servers_text_and_its_exit_code(arguments: list[str], code: int, words: str) -> None:
    got, log = run_to_exit(*arguments, "--port", "0")

    assert (got, words in log) == (code, True), log


def test_an_out_of_memory_report_has_the_table_and_the_advice() -> None:
    _, log = run_to_exit("llama-3.3-70b-fp8", "--port", "0", "--kv_cache_free_gpu_memory_fraction", "0.99")

    assert "Executor creation failed due to insufficient GPU memory." in log
    assert "Previously created components and free GPU memory before/after creation (GiB):\nModel: " in log
    assert "KV cache: reduce free_gpu_memory_fraction" in log
    assert "Executor worker returned error" in log


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("max_batchsize: 4\n", "1 validation error for TorchLlmArgs\nmax_batchsize\n  Extra inputs are not permitted"),
        ("- 1\n", "Configuration file root must be a mapping."),
    ],
)
def test_a_bad_yaml_stops_the_start(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)

    code, log = run_to_exit("llama-3.1-8b", "--port", "0", "--config", str(path))

    assert code == 1
    assert words in log


@pytest.mark.parametrize(("version", "code"), [("1.2.1", None), ("1.3.0rc20", 1)])
def test_a_kv_cache_too_small_for_one_sequence_is_lowered_or_refused(
    tmp_path: Path, version: str, code: int | None
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("max_seq_len: 8192\nkv_cache_config: {max_tokens: 1024}\n")
    arguments = ["llama-3.2-1b", "--port", "0", "--config", str(path), "--sim-version", version]

    if code is None:
        with started(*arguments) as server:
            server.wait_for(READY)
            assert "max_seq_len is set to 1024" in server.log
            assert server.stop() == 0
    else:
        got, log = run_to_exit(*arguments)
        assert got == code
        assert "exceeds the KV cache capacity of 1024 tokens" in log


def test_the_address_is_reported_before_loading(tmp_path: Path) -> None:
    path = tmp_path / "address"
    with started("llama-3.2-1b", "--port", "0", "--report_addr", str(path), "--sim-version", "1.3.0rc25") as server:
        url = server.wait_for(READY)

        assert url == f"http://{path.read_text()}"


def test_iterations_are_logged_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("print_iter_log: true\n")
    with started("llama-3.2-1b", "--port", "0", "--config", str(path)) as server:
        url = server.wait_for(READY)
        post(f"{url}/v1/completions", COMPLETION)

        line = server.wait_for(re.compile(r"(iter = \d+, .*)"))

    assert "num_scheduled_requests: 1, states = {'num_ctx_requests': 1, 'num_ctx_tokens': 2" in line


def test_crash_at_ends_the_process_with_1() -> None:
    with started("llama-3.2-1b", "--port", "0", "--sim-fault", "crash-at=0") as server:
        server.wait_for(re.compile("crash-at"))

        assert server.process.wait(TIMEOUT_S) == 1


def test_a_zombie_is_healthy_and_answers_nothing_else() -> None:
    with started("llama-3.2-1b", "--port", "0", "--sim-fault", "zombie-health") as server:
        url = server.wait_for(READY)

        assert get(f"{url}/health") == b""
        with pytest.raises(TimeoutError):
            post(f"{url}/v1/completions", COMPLETION, timeout_s=0.5)
        assert server.stop() == 0


def test_a_hung_server_accepts_and_stays_silent() -> None:
    with started("llama-3.2-1b", "--port", "0", "--sim-fault", "hang") as server:
        url = server.wait_for(READY)

        with pytest.raises(TimeoutError):
            get(f"{url}/health", timeout_s=0.5)
        assert server.process.poll() is None


def test_a_cut_stream_ends_without_its_terminator() -> None:
    with started("llama-3.2-1b", "--port", "0", "--sim-fault", "stream-cut=3") as server:
        host, port = server.wait_for(READY).removeprefix("http://").split(":")
        body = json.dumps({**COMPLETION, "stream": True}).encode()
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
            head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            received = b""
            while data := connection.recv(65536):
                received += data

    assert received.count(b'"object":"text_completion"') == 3
    assert b"[DONE]" not in received


def test_two_servers_run_side_by_side() -> None:
    with started("llama-3.2-1b", "--port", "0") as one, started("llama-3.2-1b", "--port", "0") as other:
        assert one.wait_for(READY) != other.wait_for(READY)


def test_a_server_that_is_killed_leaves_its_port() -> None:
    with started("llama-3.2-1b", "--port", "0") as server:
        url = server.wait_for(READY)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(TIMEOUT_S)

        with pytest.raises(urllib.error.URLError):
            get(f"{url}/health")
