"""Runs NVIDIA Dynamo's HTTP frontend and its mock worker, both on loopback only; ended with SIGTERM.

    python serve_dynamo.py --model DIR --port 8000 --worker-port 8001 --state DIR -- --max-num-seqs 8

The frontend is the one of production. The mock worker is NVIDIA's own simulator of an engine's scheduler, with step times
like a GPU's. Words after `--` go to it. Run by the Python of Dynamo's environment, so it imports nothing of ours.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import threading

HOSTS = (
    "DYN_TCP_RPC_HOST",
    "DYN_TCP_RESPONSE_STREAM_HOST",
    "DYN_EVENT_PLANE_HOST",
    "DYN_SYSTEM_HOST",
    "DYN_HTTP_HOST",
)
"""Left alone, Dynamo offers helper sockets on the first interface's address."""

PLANES = {"DYN_DISCOVERY_BACKEND": "file", "DYN_REQUEST_PLANE": "tcp", "DYN_EVENT_PLANE": "zmq", "DYN_LOG": "warn"}


def main(arguments: list[str]) -> int:
    """Run both until one ends or a signal comes."""
    own, _, words = " ".join(arguments).partition(" -- ")
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", required=True)
    parser.add_argument("--worker-port", required=True)
    parser.add_argument("--state", required=True)
    options = parser.parse_args(own.split())
    shutil.rmtree(options.state, ignore_errors=True)
    os.makedirs(options.state)  # noqa: PTH103
    shared = {**os.environ, **dict.fromkeys(HOSTS, "127.0.0.1"), **PLANES, "DYN_FILE_KV": options.state}
    front = ["-m", "dynamo.frontend", "--http-host", "127.0.0.1", "--http-port", options.port]
    work = ["-m", "dynamo.mocker", "--model-path", options.model, "--model-name", "tiny", *words.split()]
    running = [
        subprocess.Popen([sys.executable, *front], env=shared),
        subprocess.Popen([sys.executable, *work], env={**shared, "DYN_SYSTEM_PORT": options.worker_port}),
    ]
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    while not done.wait(0.2) and all(process.poll() is None for process in running):
        pass
    for process in reversed(running):
        process.terminate()
    for process in running:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
