"""CPU time and bytes of the screen, in a real pseudo-terminal: `python -m benchmarks.screen.run [--gpus 8] [--seconds 20]`.

A session grows at 5 samples a second while the screen shows it; the terminal here answers at once. Printed per size:
CPU to the first picture, share of one core while it follows, CPU per refresh, bytes a second, memory; then CPU of a screen
that shows a finished session.
"""

from __future__ import annotations

import argparse
import math
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.bytecode import compile_packages
from benchmarks.screen.growing import GrowingSession, write_long_session

SIZES = ((80, 24), (120, 40), (200, 60))
SETTLE_S = 3.0
COMMANDS = {"live": "attach", "replay": "replay"}


@dataclass(slots=True)
class Terminal:
    """A program in a pseudo-terminal that is drained at once and answers Textual's queries."""

    columns: int
    rows: int
    arguments: tuple[str, ...]
    link_bytes_s: float = math.inf
    received: int = 0
    seen: bytearray = field(default_factory=bytearray)
    process: psutil.Process = field(init=False)
    _master: int = field(init=False)
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.columns, 0, 0))
        environ = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        for name in ("SSH_CONNECTION", "SSH_TTY", "NO_COLOR"):
            environ.pop(name, None)
        path, mode, fps = self.arguments
        command = [sys.executable, "-m", "trtune", COMMANDS[mode], path, "--fps", fps]
        child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True)
        os.close(slave)
        self.process = psutil.Process(child.pid)
        threading.Thread(target=self._drain, daemon=True).start()

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def wait_for(self, text: bytes, limit_s: float = 60.0) -> None:
        end_s = time.monotonic() + limit_s
        while text not in self.seen:
            if time.monotonic() > end_s:
                raise TimeoutError(f"the screen never showed {text!r}")
            time.sleep(0.002)

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def stop(self) -> None:
        self._ended.set()
        self.process.kill()
        self.process.wait()

    def _drain(self) -> None:
        while not self._ended.is_set():
            if not select.select([self._master], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(self._master, 1 << 16 if math.isinf(self.link_bytes_s) else 256)
            except OSError:  # the program has ended
                return
            if not math.isinf(self.link_bytes_s):
                time.sleep(len(data) / self.link_bytes_s)
            self.received += len(data)
            if len(self.seen) < 1 << 20:
                self.seen += data
            if b"\x1b[?2026$p" in data:
                os.write(self._master, b"\x1b[?2026;2$y")


def bare_textual_s() -> float:
    """CPU that importing Textual alone takes now, on this machine: what no screen of it can be quicker than."""
    before = os.times()
    subprocess.run([sys.executable, "-c", "import textual.app"], check=True)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def measure_live(columns: int, rows: int, gpus: int, seconds: float, fps: float) -> None:
    with TemporaryDirectory() as folder:
        session = GrowingSession(Path(folder) / "bench.trtune", gpus)
        session.fill(300.0)
        terminal = Terminal(columns, rows, (str(session.path), "live", str(fps)))
        terminal.start()
        terminal.wait_for(b"TTFT")
        first_paint_s = terminal.cpu_s()
        session.follow(SETTLE_S)
        cpu_s, received = terminal.cpu_s(), terminal.received
        began_s = time.monotonic()
        session.follow(seconds)
        took_s = time.monotonic() - began_s
        cpu_s = terminal.cpu_s() - cpu_s
        received = terminal.received - received
        rss = terminal.process.memory_info().rss
        terminal.stop()
        session.close()
    print(
        f"live   {columns:>3}x{rows:<3} {gpus} GPUs {fps:g} Hz  first paint {first_paint_s:.2f} s CPU  "
        f"{100 * cpu_s / took_s:5.1f} % of a core  {1000 * cpu_s / (took_s * fps):5.1f} ms a refresh  "
        f"{received / took_s / 1000:6.1f} KB/s  {rss / 1e6:.0f} MB"
    )


def measure_idle(columns: int, rows: int, gpus: int, seconds: float) -> None:
    with TemporaryDirectory() as folder:
        session = GrowingSession(Path(folder) / "bench.trtune", gpus)
        session.fill(300.0)
        session.close()
        terminal = Terminal(columns, rows, (str(session.path), "replay", "4"))
        terminal.start()
        terminal.wait_for(b"TTFT")
        first_paint_s = terminal.cpu_s()
        time.sleep(SETTLE_S)
        cpu_s = terminal.cpu_s()
        time.sleep(seconds)
        cpu_s = terminal.cpu_s() - cpu_s
        terminal.stop()
    print(
        f"idle   {columns:>3}x{rows:<3} first paint {first_paint_s:.2f} s CPU (importing Textual alone {bare_textual_s():.2f} s)  "
        f"{100 * cpu_s / seconds:5.2f} % of a core"
    )


def measure_slow(columns: int, rows: int, gpus: int, link_bytes_s: float) -> None:
    with TemporaryDirectory() as folder:
        session = GrowingSession(Path(folder) / "bench.trtune", gpus)
        session.fill(300.0)
        terminal = Terminal(columns, rows, (str(session.path), "live", "4"), link_bytes_s)
        terminal.start()
        terminal.wait_for(b"TTFT")
        session.follow(10.0)
        began_s = time.monotonic()
        terminal.press(b"d")
        while terminal.process.is_running() and terminal.process.status() != psutil.STATUS_ZOMBIE:
            session.follow(0.05)
        took_s = time.monotonic() - began_s
        terminal.stop()
        session.close()
    print(f"slow   {columns:>3}x{rows:<3} {link_bytes_s / 1000:g} KB/s  left {took_s:.1f} s after the key")


def measure_long(hours: float, gpus: int) -> None:
    with TemporaryDirectory() as folder:
        path = write_long_session(Path(folder) / "long.trtune", hours, gpus)
        size_bytes = path.stat().st_size
        terminal = Terminal(120, 40, (str(path), "replay", "4"))
        began_s = time.monotonic()
        terminal.start()
        terminal.wait_for(b"TTFT")
        opened_s, opened_cpu_s = time.monotonic() - began_s, terminal.cpu_s()
        time.sleep(1.0)
        cpu_s = terminal.cpu_s()
        seeks = 20
        for _ in range(seeks):
            terminal.press(b"\x1b[1;5D" if _ % 2 else b"\x1b[1;5C" if _ else b"\x1b[H")
            time.sleep(0.3)
        seek_cpu_s = (terminal.cpu_s() - cpu_s) / seeks
        terminal.press(b"\x1b[F")
        time.sleep(1.0)
        cpu_s = terminal.cpu_s()
        terminal.press(b"Z")
        time.sleep(3.0)
        whole_cpu_s = terminal.cpu_s() - cpu_s
        rss = terminal.process.memory_info().rss
        terminal.stop()
    print(
        f"long   {hours:g} h, {gpus} GPUs at 5 Hz, {size_bytes / 1e6:.0f} MB: open {opened_s:.2f} s ({opened_cpu_s:.2f} s CPU), "
        f"seek {1000 * seek_cpu_s:.0f} ms CPU, whole session {1000 * whole_cpu_s:.0f} ms CPU, {rss / 1e6:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--fps", type=float, default=4.0)
    parser.add_argument("--hours", type=float, default=0.0, help="also measure a session of this length")
    options = parser.parse_args()
    compile_packages()
    for columns, rows in SIZES:
        measure_live(columns, rows, options.gpus, options.seconds, options.fps)
    measure_idle(120, 40, options.gpus, min(10.0, options.seconds))
    for link_bytes_s in (100_000, 20_000, 5_000):
        measure_slow(120, 40, options.gpus, link_bytes_s)
    if options.hours:
        measure_long(options.hours, options.gpus)


if __name__ == "__main__":
    main()
