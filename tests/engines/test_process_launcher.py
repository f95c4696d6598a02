"""The process launcher: ready, failing, dying, stopping; and nothing left behind whatever happens."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from engines.errors import MissingProgram, StartFailed
from engines.failure import FailureRule
from engines.launch.ports import free_port
from engines.launch.process import ProcessLauncher, ProcessServer, StopGrace
from engines.launch.spec import LaunchSpec
from tuner.server import why_unwell

STAND_IN = Path(__file__).with_name("stand_in_server.py")
QUICK = StopGrace(interrupt_s=0.5, terminate_s=0.5, settle_s=5.0)
PATIENT = StopGrace(interrupt_s=20.0, terminate_s=20.0)

RULES = (
    FailureRule("out_of_memory", re.compile(r"could not be created: (?P<part>.+)"), "no memory for {part}", ("share",)),
    FailureRule("worker_error", re.compile("worker failed"), "see the log"),
)


def spec(*behaviours: str, port: int | None = None, files: dict[Path, str] | None = None) -> LaunchSpec:
    chosen = port or free_port()
    return LaunchSpec(
        argv=(sys.executable, str(STAND_IN), str(chosen), *behaviours),
        url=f"http://127.0.0.1:{chosen}",
        ready_path="/health",
        files=files or {},
        failures=RULES,
    )


async def start(what: LaunchSpec, grace: StopGrace = PATIENT) -> ProcessServer:
    return await ProcessLauncher(grace).start(what, lambda _: None)


def alive(pids: tuple[int, ...]) -> list[int]:
    return [pid for pid in pids if is_alive(pid)]


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(condition: object, timeout_s: float = 30.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


async def test_a_server_is_ready_once_its_path_answers_200(http: aiohttp.ClientSession) -> None:
    server = await start(spec("ready"))

    seconds = await server.wait_ready(http, timeout_s=30)

    assert 0 < seconds < 30
    assert await server.check(http) is None
    assert len(server.pids) == 1
    await server.stop()
    assert not server.pids


async def test_files_are_written_before_the_start(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    path = tmp_path / "made" / "settings.yaml"

    server = await start(spec("ready", files={path: "a: 1\n"}))

    assert path.read_text() == "a: 1\n"
    await server.stop()


async def test_stopping_goes_from_sigint_over_sigterm_to_sigkill(http: aiohttp.ClientSession) -> None:
    server = await start(spec("ready", "ignore-sigint", "ignore-sigterm"), QUICK)
    await server.wait_ready(http, timeout_s=30)
    pids = server.pids

    await server.stop()

    assert alive(pids) == []


async def test_a_descendant_that_left_the_group_and_ignores_sigterm_is_ended_too(
    http: aiohttp.ClientSession,
) -> None:
    server = await start(spec("ready", "child"), QUICK)
    await server.wait_ready(http, timeout_s=30)
    await until(lambda: "child" in server.log_lines)
    pids = server.pids
    assert len(pids) == 2

    await server.stop()

    assert alive(pids) == []


async def test_a_server_that_ended_by_itself_is_dead_and_its_descendants_are_ended(http: aiohttp.ClientSession) -> None:
    server = await start(spec("ready", "child"), QUICK)
    await server.wait_ready(http, timeout_s=30)
    await until(lambda: "child" in server.log_lines)
    pids = server.pids

    with pytest.raises(aiohttp.ClientError):
        await http.get(server.url + "/crash")
    failure = await why_unwell(server, http)

    assert failure is not None
    assert (failure.kind, failure.exit_code) == ("died", 7), (
        "a child that outlives it does not make it a server that hangs"
    )
    assert alive(pids) == []
    await server.stop()


async def test_a_server_that_dies_in_use_is_reported_with_its_exit_code(http: aiohttp.ClientSession) -> None:
    server = await start(spec("ready"))
    await server.wait_ready(http, timeout_s=30)
    with pytest.raises(aiohttp.ClientError):
        await http.get(server.url + "/crash")
    await until(lambda: not server.pids)
    await server.stop()

    failure = await server.check(http)

    assert failure is not None
    assert (failure.kind, failure.exit_code, failure.infeasible) == ("died", 7, True)
    assert "exit code 7" in failure.text


async def test_a_server_killed_from_outside_does_not_blame_its_configuration(http: aiohttp.ClientSession) -> None:
    server = await start(spec("ready"))
    await server.wait_ready(http, timeout_s=30)
    os.kill(server.pids[0], signal.SIGKILL)
    await until(lambda: not server.pids)
    await server.stop()

    failure = await server.check(http)

    assert failure is not None
    assert not failure.infeasible
    assert "SIGKILL" in failure.text


async def test_one_bad_answer_is_forgiven_and_two_are_not(http: aiohttp.ClientSession) -> None:
    server = await start(spec("ready", "unwell"))
    await server.wait_ready(http, timeout_s=30)

    first, second = await server.check(http), await server.check(http)

    assert first is None
    assert second is not None
    assert second.kind == "hung"
    assert "503" in second.text
    await server.stop()


async def test_a_failing_start_is_explained_by_its_most_telling_line(http: aiohttp.ClientSession) -> None:
    server = await start(spec("fail"), QUICK)

    with pytest.raises(StartFailed) as raised:
        await server.wait_ready(http, timeout_s=30)

    failure = raised.value.failure
    assert failure.kind == "out_of_memory"
    assert failure.text == "no memory for KV cache"
    assert failure.line == "component could not be created: KV cache"
    assert failure.accuses == ("share",)
    assert failure.exit_code == 3


async def test_an_unknown_end_of_a_start_quotes_the_last_line(http: aiohttp.ClientSession) -> None:
    command = (sys.executable, "-c", "print('cannot go on'); raise SystemExit(5)")
    port = free_port()
    server = await start(LaunchSpec(command, f"http://127.0.0.1:{port}", "/health"))

    with pytest.raises(StartFailed, match=r"ended before it was ready \(exit code 5\): cannot go on"):
        await server.wait_ready(http, timeout_s=30)


async def test_a_start_that_never_becomes_ready_is_stopped(http: aiohttp.ClientSession) -> None:
    server = await start(spec())

    with pytest.raises(StartFailed, match=r"not ready within 2 s") as raised:
        await server.wait_ready(http, timeout_s=2)

    assert raised.value.failure.kind == "timeout", "what it prints when it is stopped is no cause"
    assert "RuntimeError: worker failed" in server.log_lines
    assert not server.pids


async def test_a_taken_port_is_refused_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(StartFailed, match=f"port {port} .* is in use") as raised:
            await start(spec("ready", port=port))

    assert raised.value.failure.kind == "port_in_use"
    assert not raised.value.failure.infeasible


async def test_a_missing_program_is_named() -> None:
    with pytest.raises(MissingProgram, match="'no-such-server' is not on this host"):
        await start(LaunchSpec(("no-such-server",), f"http://127.0.0.1:{free_port()}", "/health"))


async def test_a_program_that_cannot_run_fails_the_start(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    broken = tmp_path / "server"
    broken.write_bytes(b"\x00\x01")
    broken.chmod(0o755)
    server = await start(LaunchSpec((str(broken),), f"http://127.0.0.1:{free_port()}", "/health"))

    with pytest.raises(StartFailed, match="cannot start"):
        await server.wait_ready(http, timeout_s=30)


async def test_the_log_is_bounded_and_its_lines_are_clean(http: aiohttp.ClientSession) -> None:
    heard: list[str] = []
    server = await ProcessLauncher(PATIENT).start(spec("ready", "loud"), heard.append)
    await server.wait_ready(http, timeout_s=30)
    await until(lambda: "listening" in heard)
    await server.stop()

    assert len(heard[0]) < 5000
    assert heard[1:4] == ["bad \ufffd bytes", "red", "100%"]
    assert len(server.log_lines) == 2500
    assert server.log_lines[4] == "line 0"
    assert "line 4999" in server.log_lines


async def test_environment_of_the_plan_reaches_the_server(http: aiohttp.ClientSession) -> None:
    heard: list[str] = []
    command = (sys.executable, "-c", "import os; print(os.environ['MARK'])")
    what = LaunchSpec(command, f"http://127.0.0.1:{free_port()}", "/health", environment={"MARK": "seen"})

    server = await ProcessLauncher(PATIENT).start(what, heard.append)
    with pytest.raises(StartFailed):
        await server.wait_ready(http, timeout_s=30)

    assert heard == ["seen"]


async def test_stopping_twice_and_stopping_a_dead_server_do_nothing(http: aiohttp.ClientSession) -> None:
    server = await start(spec("ready"))
    await server.wait_ready(http, timeout_s=30)

    await server.stop()
    await server.stop()

    assert not server.pids


async def test_a_killed_guard_leaves_no_server_behind(http: aiohttp.ClientSession) -> None:
    server = await start(spec("ready"), QUICK)
    await server.wait_ready(http, timeout_s=30)
    pids = server.pids
    guard = psutil.Process(pids[0]).parent()
    assert guard is not None

    guard.kill()
    await server.stop()

    assert alive(pids) == []


WORKER = """
import asyncio, sys
sys.path.insert(0, {root!r})
import aiohttp
from pathlib import Path
from tests.engines.test_process_launcher import spec, start

async def main():
    server = await start(spec("ready", "child"))
    async with aiohttp.ClientSession() as http:
        await server.wait_ready(http, 30)
    while "child" not in server.log_lines:
        await asyncio.sleep(0.02)
    print(*server.pids, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_worker_ended_by_sigkill_takes_its_server_and_grandchildren_along() -> None:
    root = str(Path(__file__).parents[2])
    code = WORKER.format(root=root)
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert worker.stdout is not None
    pids = tuple(int(word) for word in (await worker.stdout.readline()).split())
    assert len(alive(pids)) == 2

    worker.kill()
    await worker.wait()

    await until(lambda: alive(pids) == [])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process of its parent's death")
async def test_a_server_ends_when_its_guard_is_killed(http: aiohttp.ClientSession) -> None:
    server = await start(spec("ready"))
    await server.wait_ready(http, timeout_s=30)
    (pid,) = server.pids
    guard = psutil.Process(pid).parent()
    assert guard is not None

    guard.kill()

    await until(lambda: not is_alive(pid))
    await server.stop()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process of its parent's death")
async def test_a_server_that_ignores_sigterm_ends_when_what_we_started_is_killed(http: aiohttp.ClientSession) -> None:
    server = await start(spec("ready", "child", "ignore-sigterm"))
    await server.wait_ready(http, timeout_s=30)
    await until(lambda: len(server.pids) == 2)
    pids = server.pids
    ours = [child for child in psutil.Process().children() if "guard.py" in " ".join(child.cmdline())]

    for front in ours:
        front.kill()

    await until(lambda: alive(pids) == [])
    await server.stop()


async def test_a_signal_that_is_blocked_here_ends_a_server_all_the_same(http: aiohttp.ClientSession) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server = await start(spec("ready", "ignore-sigterm"), StopGrace(interrupt_s=20.0, terminate_s=0.0))
        await server.wait_ready(http, timeout_s=30)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    await server.stop()

    assert "KeyboardInterrupt" in server.log_lines


SLOW_GUARD = """
import os, subprocess, sys
from engines.launch import guard

class StartedLate(subprocess.Popen):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

subprocess.Popen = StartedLate
sys.argv = ["guard.py", str(os.getppid()), "all", "sh", "-c", "exit 7"]
sys.exit(guard.main())
"""
"""A guard that gets to run again only once its command has ended."""


def test_a_command_that_ends_before_its_guard_looks_keeps_its_exit_code() -> None:
    ended = subprocess.run([sys.executable, "-c", SLOW_GUARD], stdin=subprocess.PIPE, timeout=60, check=False)

    assert ended.returncode == 7
