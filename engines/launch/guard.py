"""Stands between trtune and a server, so that no process of the server outlives trtune.

    python guard.py PARENT_PID CPUS WORD...

The guard starts the server from the words, in a session of its own, and ends with its exit code (128 + signal number
when a signal ended it). CPUS are those that the server may use (`0,1,2`), or `all`. Standard input is the line of command:
`stop INTERRUPT_S TERMINATE_S` asks for an orderly stop, and its end (or a new parent) means that trtune is gone, even by
SIGKILL. The guard is a child subreaper (prctl(2), Linux 3.4): processes of the server that leave its group or lose their
parent come back to the guard, so that it can end them all. TensorRT-LLM's MPI workers do exactly that (contract trtllm 8.2:
orphans keep GPU memory).

The process that is started stands in front of the guard proper, its child, and only passes on how that ended: who kills its own
children, as Ray does when a worker ends, kills the one in front, and the guard is told by SIGTERM and ends the server in order.

It is run as a file with nothing but the standard library and psutil, so that it starts fast and needs no import path.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

import psutil

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CANNOT_START = 127
LEFTOVER_GRACE_S = 5.0
ORPHAN_GRACE_S = 3.0
KILL_LIMIT_S = 10.0
PARENT_CHECK_S = 1.0
STOP_CHECK_S = 0.05


class Guard:
    """One server process, its descendants, and the pipe that wakes us when one of them ends."""

    def __init__(self, parent_pid: int, front_pid: int, argv: list[str]) -> None:
        self._parent_pid = parent_pid
        self._front_pid = front_pid
        self._wake_fd = _wake_on_signals()
        self._me = psutil.Process()
        self._seen: set[psutil.Process] = set()
        self._subreaper = _become_subreaper()
        # Used to start only, since reap() collects every child by itself; kept, since Popen collects the child of an
        # object that is let go, and its exit code would be lost.
        self._server = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_Prepare(os.getpid())
        )
        self.exit_code: int | None = None

    def run(self) -> int:
        """Wait for the server's end, a command, or the parent's end; returns the server's exit code."""
        control = sys.stdin.fileno()
        while self.exit_code is None:
            readable, _, _ = select.select([control, self._wake_fd], [], [], PARENT_CHECK_S)
            signals = os.read(self._wake_fd, 512) if self._wake_fd in readable else b""
            self.reap()
            if not self._subreaper:
                self._seen.update(self._me.children(recursive=True))
            if self._orphaned() or signal.SIGTERM in signals:
                self.stop(0.0, ORPHAN_GRACE_S)
            elif control in readable:
                self.stop(*_parse_command(os.read(control, 512)))
        self.stop(0.0, LEFTOVER_GRACE_S)
        return self.exit_code

    def _orphaned(self) -> bool:
        """Whether trtune, or the process between it and us, is gone."""
        if os.getppid() != self._front_pid:
            return True
        try:
            return psutil.Process(self._front_pid).ppid() != self._parent_pid
        except psutil.NoSuchProcess:
            return True

    def stop(self, interrupt_s: float, terminate_s: float) -> None:
        """SIGINT to the server's group as Ctrl-C would, then SIGTERM and SIGKILL to all that is left."""
        if interrupt_s > 0 and self.left():
            _signal_group(self._server.pid, signal.SIGINT)
            self._wait_gone(interrupt_s)
        for number, grace_s in ((signal.SIGTERM, terminate_s), (signal.SIGKILL, KILL_LIMIT_S)):
            for process in self.left():
                _signal(process, number)
            self._wait_gone(grace_s, again=number == signal.SIGKILL)
        if left := self.left():
            _say(f"guard: cannot end processes {sorted(process.pid for process in left)}")
            self.exit_code = self.exit_code if self.exit_code is not None else CANNOT_START

    def _wait_gone(self, grace_s: float, *, again: bool = False) -> None:
        """Until nothing is left or the time is over; helpers left by an ended server get a shorter time."""
        deadline = time.monotonic() + grace_s
        shortened = False
        while (left := self.left()) and time.monotonic() < deadline:
            if self.exit_code is not None and not shortened:
                deadline = min(deadline, time.monotonic() + LEFTOVER_GRACE_S)
                shortened = True
            if again:
                for process in left:
                    _signal(process, signal.SIGKILL)
            time.sleep(STOP_CHECK_S)

    def left(self) -> set[psutil.Process]:
        """Descendants that still run."""
        self.reap()
        self._seen = {p for p in self._seen if _runs(p)} | set(self._me.children(recursive=True))
        return {process for process in self._seen if _runs(process)}

    def reap(self) -> None:
        """Collect every ended child, ours and adopted ones, and note the server's exit code."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                if self.exit_code is None:  # nobody is left who could tell it
                    self.exit_code = CANNOT_START
                return
            if pid == 0:
                return
            if pid == self._server.pid:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code


def _wake_on_signals() -> int:
    """A file descriptor that becomes readable when a child ends; other signals wake too; only SIGTERM is acted on.

    Handlers instead of SIG_IGN, since an ignored signal would stay ignored in the server.
    """
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    return read_fd


def _become_subreaper() -> bool:
    """Adopt orphaned descendants; False where the system has no such thing."""
    if not sys.platform.startswith("linux"):
        return False
    return int(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0


class _Prepare:
    """In a child before it runs what it is for: no signal is blocked, and the death of its parent is a SIGTERM.

    Ray's workers block SIGINT and what they start inherits that; a server would never end by it.
    """

    def __init__(self, parent_pid: int) -> None:
        self._parent_pid = parent_pid

    def __call__(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if not sys.platform.startswith("linux"):
            return
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self._parent_pid:  # it died before it could be told
            os.kill(os.getpid(), signal.SIGTERM)


def _parse_command(data: bytes) -> tuple[float, float]:
    """Seconds to wait after SIGINT and after SIGTERM; an empty read means that the parent is gone."""
    words = data.split()
    if len(words) == 3 and words[0] == b"stop":
        return float(words[1]), float(words[2])
    return 0.0, ORPHAN_GRACE_S


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _keep_to(cpus: set[int]) -> None:
    """Use these CPUs only, and so does what is started; those that this process may not use are left out."""
    if hasattr(os, "sched_setaffinity") and (allowed := cpus & os.sched_getaffinity(0)):
        os.sched_setaffinity(0, allowed)


def _say(line: str) -> None:
    """A line into the server's log; the reader of the log may be gone."""
    with contextlib.suppress(BrokenPipeError):
        print(line, flush=True)  # noqa: T201


def _stand_in_front(guard_pid: int) -> int:
    """Wait for the guard, passing SIGTERM on; returns its exit code."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(guard_pid, signal.SIGTERM))
    _, status = os.waitpid(guard_pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def main() -> int:
    """Start and guard the server; 127 when it cannot be started."""
    parent_pid, cpus, *argv = sys.argv[1:]
    if cpus != "all":
        _keep_to({int(cpu) for cpu in cpus.split(",")})
    front_pid = os.getpid()
    if guard_pid := os.fork():
        return _stand_in_front(guard_pid)
    _Prepare(front_pid)()
    try:
        guard = Guard(int(parent_pid), front_pid, argv)
    except OSError as error:
        _say(f"cannot start {argv[0]}: {error.strerror}")
        return CANNOT_START
    return guard.run()


if __name__ == "__main__":
    sys.exit(main())
