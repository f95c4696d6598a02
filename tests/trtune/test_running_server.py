"""`watch`, `bench` and `export` with a server that somebody else runs: the simulated one over HTTP."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import orjson
import pytest
import yaml

from sessions.reader import SessionReader
from tests.trtune.conftest import Program, objects
from tests.trtune.running import running_server
from trtune.find import find_here

pytestmark = pytest.mark.xdist_group("server")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a running simulated trtllm-serve with metrics on."""
    with running_server(tmp_path_factory.mktemp("server")) as url:
        yield url


def test_a_hundred_requests_means_a_hundred(program: Program, server: str) -> None:
    done = program.run(
        "bench", server, "--concurrency", "4,8", "--requests", "100", "--isl", "32", "--osl", "4", "--json",
        "--session", program.session,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    levels = objects(done.stdout)[-1]["levels"]
    assert isinstance(levels, list)
    assert [(level["value"], level["state"], level["result"]["requests"]["avg"]) for level in levels] == [
        (4, "valid", 100),
        (8, "valid", 100),
    ]
    with SessionReader(program.session) as reader:
        assert [len(reader.requests(level.id)) for level in reader.levels()] == [100, 100]
        engine = reader.meta()["engine"]
    assert (engine["name"], engine["simulated"]) == ("trtllm", True), "the server was asked who it is"


def test_a_bench_measures_every_level_even_beyond_its_limits(program: Program, server: str) -> None:
    done = program.run(
        "bench", server, "--concurrency", "1,2", "--duration", "0.5", "--isl", "32", "--osl", "4",
        "--slo", "ttft:p99:<=:0.001", "--session", program.session,
    )  # fmt: skip

    assert done.returncode == 3, "no level meets the limit"
    assert "concurrency 2" in done.stdout
    assert "lag p99 ms" in done.stdout


def test_an_open_loop_bench_reports_asked_and_reached(program: Program, server: str) -> None:
    done = program.run(
        "bench", server, "--rate", "5", "--duration", "3", "--isl", "32", "--osl", "4", "--json", "--session", program.session,
        "--set", "workload.arrivals.pattern='constant'",
    )  # fmt: skip

    levels = objects(done.stdout)[-1]["levels"]
    assert isinstance(levels, list)
    assert levels[0]["result"]["sent_rate"]["avg"] == pytest.approx(5, rel=0.3)
    # On a machine with too much to do requests leave late: then the level must say that it does not count.
    assert (levels[0]["state"], done.returncode) in (("valid", 0), ("invalid", 3))


def test_watching_samples_until_it_is_told_to_stop_and_leaves_the_server_alone(program: Program, server: str) -> None:
    watcher = program.start("watch", server, "--headless", "--session", program.session)
    program.wait_for(lambda reader: (status := reader.worker()) is not None and status.text.startswith("watching"))
    program.run("bench", server, "--concurrency", "2", "--requests", "20", "--isl", "32", "--osl", "16", "--headless")
    program.wait_for(lambda reader: any(reader.last_sample(source.id) for source in reader.sources("engine")))
    watcher.send_signal(signal.SIGINT)
    watcher.communicate(timeout=60)

    assert watcher.returncode == 130
    with urlopen(f"{server}/health", timeout=5) as answer:
        assert answer.status == 200


def test_one_reading_for_a_script(program: Program, server: str) -> None:
    done = program.run("watch", server, "--once", "--json", "--dcgm", "http://127.0.0.1:1/metrics")

    assert done.returncode == 0, done.stderr
    (facts,) = objects(done.stdout)
    assert isinstance(facts["server"], dict)
    assert (facts["server"]["model"], facts["server"]["simulated"]) == ("llama-3.1-8b", True)
    assert "http://127.0.0.1:1/metrics cannot be reached" in str(facts["gpu_note"])


def test_a_finished_session_is_told_and_exported(program: Program, plan: Callable[..., Path], tmp_path: Path) -> None:
    program.run("tune", plan(), "--json", "--session", program.session, "--trials", "2")

    told = program.run("replay", program.session, "--json")
    config = program.run("export", program.session, "--format", "config", "--trial", "1")
    command = program.run("export", program.session, "--format", "command", "--trial", "1")
    trials = program.run("export", program.session, "--format", "csv")
    requests = program.run("export", program.session, "--format", "csv", "--table", "requests", "--trial", "0")
    output = tmp_path / "best.yaml"
    first = program.run("export", program.session, "--output", output)
    second = program.run("export", program.session, "--output", output)

    assert objects(told.stdout)[-1]["event"] == "result"
    assert yaml.safe_load(config.stdout)["max_batch_size"] in (1, 2, 4, 8)
    assert "serve llama-3.1-8b" in command.stdout
    assert len(list(csv.DictReader(io.StringIO(trials.stdout)))) == 2
    assert all(row["status"] == "ok" for row in csv.DictReader(io.StringIO(requests.stdout)))
    assert (first.returncode, second.returncode) == (0, 2)
    assert "exists already" in second.stderr


def test_an_api_key_reaches_the_server_and_nothing_else(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    key = "nvapi-very-secret"
    monkeypatch.setenv("TEST_API_KEY", key)
    with guarded_server(key, seen) as url:
        done = program.run(
            "bench", url, "--engine", "openai", "--api-key-env", "TEST_API_KEY", "--concurrency", "1", "--requests", "2",
            "--osl", "2", "--json", "--session", program.session,
        )  # fmt: skip

    assert seen, done.stderr
    assert set(seen) == {f"Bearer {key}"}
    assert key not in done.stdout + done.stderr
    assert key.encode() not in program.session.read_bytes()


@contextlib.contextmanager
def guarded_server(key: str, seen: list[str]) -> Iterator[str]:
    """A small OpenAI-style server that answers only those who know the key, and notes what it was shown."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def allowed(self) -> bool:
            seen.append(self.headers.get("Authorization", ""))
            if seen[-1] != f"Bearer {key}":
                self.answer(401, b'{"error": "who are you?"}')
            return seen[-1] == f"Bearer {key}"

        def do_GET(self) -> None:
            if self.allowed():
                self.answer(200, b'{"object": "list", "data": [{"id": "m", "owned_by": "me"}]}')

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.allowed():
                event = b'data: {"choices": [{"index": 0, "text": "a", "delta": {"content": "a"}}]}\n\n'
                self.answer(200, event + event + b"data: [DONE]\n\n", "text/event-stream")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_bench_ends_at_the_wanted_precision_and_writes_aiperfs_files(
    program: Program, server: str, tmp_path: Path
) -> None:
    done = program.run(
        "bench", server, "--concurrency", "2", "--precision", "20%", "--min", "1", "--max", "20", "--isl", "16", "--osl", "8",
        "--json", "--session", program.session, "--compat", "aiperf", "--artifacts", tmp_path / "artifacts",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    levels = objects(done.stdout)[-1]["levels"]
    assert isinstance(levels, list)
    assert any("precision" in note for note in levels[0]["notes"])
    folder = tmp_path / "artifacts" / "concurrency2"
    summary = json.loads((folder / "profile_export_aiperf.json").read_text())
    records = (folder / "profile_export.jsonl").read_text().splitlines()
    assert summary["time_to_first_token"]["p99"] > 0
    assert len(records) > 5


def test_a_share_that_is_none_is_refused(program: Program, server: str) -> None:
    done = program.run("bench", server, "--precision", "exact")

    assert done.returncode == 2
    assert "such as 2% or 0.02" in done.stderr


def test_running_server_is_found_by_its_process(server: str) -> None:
    found = next(each for each in find_here().servers if each.url == server)

    assert (found.engine, found.title) == ("trtllm", "TensorRT-LLM")
    assert "llama-3.1-8b" in found.model
    assert "engines.simulated" in found.how


def test_setup_without_a_terminal_prints_what_was_found(program: Program, server: str) -> None:
    done = program.run("setup", "--json")

    assert done.returncode == 0, done.stderr
    assert server in {each["url"] for each in orjson.loads(done.stdout)["servers"]}
