"""The example that drives the search against a stranger's problem over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "external_search.py"
PROBLEM = {
    "knobs": [
        {"name": "lanes", "kind": "int", "default": 2, "low": 1, "high": 64, "log": True},
        {"name": "fast", "kind": "bool", "default": False},
    ],
    "objective": {"metric": "output_token_throughput", "slos": ["ttft:p99:<=:100"]},
    "workload": {"input_tokens": 100, "output_tokens": 10, "levels": [1, 8]},
    "starts": 16,
}


class Problem(BaseHTTPRequestHandler):
    """A server that refuses many lanes, and is best at 32."""

    recommended: dict[str, Any]
    params: dict[str, Any]

    def do_GET(self) -> None:
        self._answer(PROBLEM)

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/launch":
            type(self).params = told["params"]
            lanes = told["params"].get("lanes", 2)
            self._answer({"ok": lanes <= 40, "reason": "out of memory", "accused": ["lanes"]})
        elif self.path == "/measure":
            lanes, fast = self.params.get("lanes", 2), self.params.get("fast", False)
            rate = min(lanes, 32) * told["level"] * (1.5 if fast else 1)
            self._answer({"output_token_throughput": {"avg": rate}, "ttft": {"p99": 10.0 * told["level"]}})
        else:
            type(self).recommended = told["params"]
            self._answer({})

    def _answer(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Keep the test's output clean."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Problem)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_example_recommends_a_good_configuration(url: str) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE, url], check=True, capture_output=True, text=True, timeout=100, cwd=EXAMPLE.parents[1]
    )

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert Problem.recommended == lines[-1]["recommended"]
    assert Problem.recommended["fast"] is True
    assert 24 <= Problem.recommended["lanes"] <= 40
