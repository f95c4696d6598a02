"""The screen in real terminals: tmux, and pseudo-terminals of several kinds."""

from __future__ import annotations

import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.trtune.conftest import Program
from tests.tui.sample_session import write_sample_session

LIMIT_S = 60.0


class Tmux:
    """One tmux server with one window; keys go in, text comes out."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "tmux.sock"
        self._environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(Path.cwd())}
        for name in ("SSH_CONNECTION", "SSH_TTY", "NO_COLOR", "TMUX"):
            self._environment.pop(name, None)

    def _run(self, *words: str) -> str:
        command = ["tmux", "-S", str(self._socket), "-f", "/dev/null", *words]
        return subprocess.run(command, env=self._environment, check=True, capture_output=True, text=True).stdout

    def start(self) -> None:
        self._run("new-session", "-d", "-x", "120", "-y", "40", "sh")

    def type(self, *words: str) -> None:
        """Type a command line; the program is the one under test."""
        line = " ".join((sys.executable, "-m", "trtune", *words))
        self._run("send-keys", "-l", line)
        self.press("Enter")

    def press(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self._run("resize-window", "-x", str(columns), "-y", str(rows))

    def text(self) -> str:
        return self._run("capture-pane", "-p")

    def wait_for(self, *words: str) -> str:
        """Wait until all words are shown at once."""
        end_s = time.monotonic() + LIMIT_S
        while True:
            text = self.text()
            if all(word in text for word in words):
                return text
            assert time.monotonic() < end_s, f"{words} never came; shown was:\n{text}"
            time.sleep(0.1)

    def wait_for_end_of(self, word: str) -> None:
        """Wait until a word is shown no more."""
        end_s = time.monotonic() + LIMIT_S
        while word in self.text():
            assert time.monotonic() < end_s, f"{word} stayed"
            time.sleep(0.1)

    def stop(self) -> None:
        subprocess.run(["tmux", "-S", str(self._socket), "kill-server"], check=False, capture_output=True)


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed here")
    terminal = Tmux(tmp_path)
    terminal.start()
    yield terminal
    terminal.stop()


@pytest.mark.slow
def test_start_tune_detach_attach_and_replay(tmux: Tmux, program: Program, plan: Callable[..., Path]) -> None:
    session = str(program.session)
    tmux.type("tune", str(plan()), "--session", session)
    tmux.wait_for("SIMULATED", "LIVE", "KV cache")
    tmux.press("2")
    tmux.wait_for("best against baseline", "differs from the baseline")

    tmux.press("q")
    tmux.wait_for("Leave?", "the work goes on")
    tmux.press("d")
    tmux.wait_for("the work goes on; look at it again with")

    tmux.type("attach", session)
    tmux.wait_for("SIMULATED", "KV cache")
    tmux.press("q", "d")
    program.wait_for(lambda reader: (status := reader.worker()) is not None and status.over)

    tmux.type("replay", session)
    tmux.wait_for("REPLAY", "util %")
    tmux.press("Home", "Space")
    tmux.wait_for("x1")
    for columns, rows in ((80, 24), (40, 10), (200, 60), (60, 16), (120, 40)):
        tmux.resize(columns, rows)
    tmux.wait_for("REPLAY", "GPU power W")
    tmux.press("q")
    tmux.wait_for_end_of("REPLAY")
    tmux.type("--version")
    tmux.wait_for("trtune 0.")


def replaying(path: Path) -> list[str]:
    return [sys.executable, "-m", "trtune", "replay", str(path)]


def on_pty(
    command: list[str],
    changes: dict[str, str],
    wanted: bytes,
    *,
    answer: bool,
    leave: Callable[[subprocess.Popen[bytes]], object] | None = None,
) -> tuple[bytes, int]:
    """Run a screen in a bare pseudo-terminal until something is drawn, leave with `q` or so; what came, and the exit status."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", **changes}
    for name in {"SSH_CONNECTION", "SSH_TTY", "COLORTERM", "NO_COLOR"} - changes.keys():
        environment.pop(name, None)
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
    os.close(slave)
    seen, pressed, end_s = b"", False, time.monotonic() + LIMIT_S
    try:
        while child.poll() is None and time.monotonic() < end_s:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    data = os.read(master, 1 << 16)
                except OSError:
                    break
                seen += data
                if answer and b"\x1b[?2026$p" in data:
                    os.write(master, b"\x1b[?2026;2$y")
            if wanted in seen and not pressed:
                pressed = True
                os.write(master, b"q") if leave is None else leave(child)
        return seen, child.wait(10)
    finally:
        child.kill()
        child.wait()
        os.close(master)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_session(tmp_path_factory.mktemp("sample") / "sample.trtune")


def test_a_screen_that_is_ended_gives_the_terminal_back(sample: Path) -> None:
    seen, status = on_pty(replaying(sample), {}, b"KV cache", answer=True, leave=lambda child: child.terminate())

    assert status == 0
    assert seen.rindex(b"\x1b[?1049l") > seen.index(b"\x1b[?1049h"), "the usual screen is in front again"


def test_terminal_that_never_answers_is_drawn_on_and_left(sample: Path) -> None:
    seen, status = on_pty(replaying(sample), {}, b"KV cache", answer=False)

    assert status == 0
    assert b"SIMULATED" in seen


@pytest.mark.parametrize(
    ("changes", "colours"),
    [
        ({"TERM": "screen"}, (b"\x1b[3", b"\x1b[9")),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, (b"38;2;",)),
        ({"NO_COLOR": "1"}, ()),
    ],
    ids=["16 colours", "truecolor", "no colour"],
)
def test_terminals_of_every_depth_are_served(sample: Path, changes: dict[str, str], colours: tuple[bytes, ...]) -> None:
    seen, status = on_pty(replaying(sample), changes, b"KV cache", answer=True)

    assert status == 0
    assert any(colour in seen for colour in colours) or not colours
    if changes.get("TERM") == "screen":
        assert b"38;2;" not in seen


def test_terminal_without_utf8_gets_ascii(sample: Path) -> None:
    changes = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    seen, status = on_pty(replaying(sample), changes, b"KV cache", answer=True)

    assert status == 0
    assert seen.isascii()


BROKEN = """
import sys
from pathlib import Path
from tui.app import run_app
from tui.front_door import FrontDoor

def find():
    secret = "hunter2"
    raise KeyError(len(secret))

try:
    run_app(None, sessions_dir=Path("nowhere"), door=FrontDoor(find=find), setup=True)
except KeyError as error:
    sys.exit(f"told by the caller: {error!r}")
"""


def test_a_fault_ends_the_screen_and_is_the_callers_to_tell_without_any_variable() -> None:
    seen, status = on_pty([sys.executable, "-c", BROKEN], {}, b"never drawn", answer=True)

    assert status == 1
    assert b"told by the caller: KeyError(7)" in seen
    assert b"hunter2" not in seen
