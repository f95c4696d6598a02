"""A simulated trtllm-serve that somebody else runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from engines.launch.ports import free_port


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """Start one with metrics on; gives its URL once it is ready."""
    config = folder / "config.yaml"
    config.write_text("enable_iter_perf_stats: true\nreturn_perf_metrics: true\n")
    port = free_port("127.0.0.1")
    words = ["serve", "llama-3.1-8b", "--host", "127.0.0.1", "--port", str(port), "--backend", "pytorch"]
    process = subprocess.Popen(
        [sys.executable, "-m", "engines.simulated", *words, "--config", str(config), "--sim-time-scale", "0.001"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            with urlopen(f"{url}/health", timeout=1):
                break
        except URLError:
            assert process.poll() is None
            psutil.wait_procs([psutil.Process(process.pid)], timeout=0.1)
    yield url
    process.send_signal(signal.SIGINT)
    process.wait(30)
