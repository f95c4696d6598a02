"""What several commands share: flags, and showing a session on the screen or in lines."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtune.errors import DONE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from trtune.follow import Follower
    from tui.app import AppResult
    from tuner.plan import Plan

STOP_WAIT_S = 120.0
SQLITE_MAGIC = b"SQLite format 3\0"


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say how the work is shown."""
    group = parser.add_argument_group("output")
    group.add_argument("--headless", action="store_true", help="no screen: a line for everything that happens")
    group.add_argument("--json", action="store_true", help="no screen: one JSON object a line")
    add_screen_flags(group)


def add_screen_flags(group: argparse._ActionsContainer) -> None:
    """Flags of the screen."""
    group.add_argument("--ascii", action="store_true", help="draw with ASCII characters only")
    group.add_argument("--fps", type=_fps, default=0.0, help="frames a second (default: 4, over SSH 2)")
    group.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
    group.add_argument("--read-only", action="store_true", help="look, but ask nothing of the worker")


def _fps(text: str) -> float:
    """A rate of frames.

    Raises:
        ArgumentTypeError: If the screen cannot be drawn at that rate.
    """
    from argparse import ArgumentTypeError

    from tui.config import FPS_LIMITS

    low, high = FPS_LIMITS
    try:
        fps = float(text)
    except ValueError:
        fps = 0.0
    if not low <= fps <= high:
        raise ArgumentTypeError(f"{text}: must be a number from {low:g} to {high:g}")
    return fps


def show(path: Path, args: argparse.Namespace, *, live: bool) -> int:
    """Show a session: on the screen where there is a terminal, else as lines.

    Args:
        path: The session.
        args: Parsed flags of `add_output_flags`.
        live: Whether a worker is writing it.

    Returns:
        The exit status.
    """
    try:
        if not wants_lines(args):
            return _on_screen(path, args, live=live)
        from trtune.follow import Follower

        follower = Follower(path, json=getattr(args, "json", False))
        if not live:
            return _conclude(follower, path)
        status = follower.run()
        _leave_one_file(path)
        return status
    except KeyboardInterrupt:
        if live:  # before, or after, the time in which the lines or the screen answer to Ctrl-C
            print(f"trtune: left; see what becomes of it with: trtune attach {path}", file=sys.stderr)
        raise


def wants_lines(args: argparse.Namespace) -> bool:
    """Whether lines are wanted, or all that this terminal can show; says why in that case."""
    if _asks_for_lines(args):
        return True
    problem = screen_problem()
    if problem:
        print(problem, file=sys.stderr)
    return bool(problem)


def _asks_for_lines(args: argparse.Namespace) -> bool:
    return getattr(args, "headless", False) or getattr(args, "json", False)


def screen_problem() -> str:
    """Why no screen can be shown here, or nothing."""
    from tui.terminal import terminal_problem

    return terminal_problem() or ""


def show_list(args: argparse.Namespace, *, setup: bool = False) -> int:
    """Show the list of sessions, or the wizard; returns the exit status."""
    result = _run_screen(None, args, live=False, setup=setup)
    return _after_screen(result, result.session, live=False)


def _on_screen(path: Path, args: argparse.Namespace, *, live: bool) -> int:
    return _after_screen(_run_screen(path, args, live=live), path, live=live)


def _run_screen(path: Path | None, args: argparse.Namespace, *, live: bool, setup: bool = False) -> AppResult:
    _load_screen()
    from trtune.door import make_door
    from trtune.paths import sessions_dir
    from tui.app import run_app

    return run_app(
        path,
        sessions_dir=sessions_dir(),
        mode="live" if live else "replay",
        read_only=args.read_only,
        ascii_only=args.ascii,
        fps=args.fps or None,
        mouse=not args.no_mouse,
        door=make_door(),
        setup=setup,
    )


def _load_screen() -> None:
    import gc

    gc.disable()  # loading makes many objects and no garbage; the screen enables it with its first picture
    importlib.import_module("trtune.door")
    importlib.import_module("tui.app")


def _after_screen(result: AppResult, path: Path | None, *, live: bool) -> int:
    """What is left to do and to say once the screen is gone."""
    from sessions.commands import send_command
    from tui.terminal import in_browser

    shown = result.session or path
    if shown is None or (result.action == "quit" and not live):
        return DONE
    if result.action == "stop":
        send_command(shown, "stop")
    if in_browser():  # there is no terminal to print to
        return DONE
    if result.action == "detach":
        print(f"the work goes on; look at it again with: trtune attach {shown}")
        return DONE
    if result.action == "stop":
        print("stopping; press Ctrl-C to leave at once")
        _wait_until_over(shown)
    from trtune.follow import Follower  # a second, for which nobody who leaves waits

    status = _conclude(Follower(shown, json=False), shown)
    if live:
        _leave_one_file(shown)
    return status


def _leave_one_file(path: Path) -> None:
    """Tidy up for a worker that could not when it ended, since we were looking on."""
    from sessions.holding import settle
    from sessions.reader import SessionReader

    with SessionReader(path) as reader:
        status = reader.worker()
    if status is not None and status.over:
        settle(path)


def _conclude(follower: Follower, path: Path) -> int:
    from sessions.reader import SessionReader

    with SessionReader(path) as reader:
        return follower.conclude(reader)


def _wait_until_over(path: Path) -> None:
    from sessions.reader import SessionReader
    from trtune.start import worker_is_gone

    deadline = time.monotonic() + STOP_WAIT_S
    with SessionReader(path) as reader:
        while time.monotonic() < deadline:
            status = reader.worker()
            if status is None or status.over or worker_is_gone(reader):
                return
            time.sleep(0.1)


def begin_session_for(plan: Plan, args: argparse.Namespace, more: Mapping[str, Any] | None = None) -> Path:
    """Begin a session for a plan and start its worker; returns the session's path."""
    from trtune.paths import new_session_path
    from trtune.start import begin_session

    path = Path(args.session).expanduser() if args.session else new_session_path(plan.name or plan.kind)
    begin_session(plan, path, more)
    begin_work(path, args)
    return path


def begin_work(path: Path, args: argparse.Namespace) -> None:
    """Start the worker of a session. What will show it is loaded before: from then on somebody answers to Ctrl-C."""
    from trtune.start import start_worker

    if _asks_for_lines(args) or screen_problem():
        importlib.import_module("trtune.follow")
    else:
        _load_screen()
    start_worker(path)


def begin_and_show(plan: Plan, args: argparse.Namespace) -> int:
    """Begin a session for a plan, start its worker, and show it; returns the exit status."""
    return show(begin_session_for(plan, args), args, live=True)


def wanted_folder(args: argparse.Namespace) -> Path:
    """The folder that a command is about: the one it names, else the sessions folder, which need not be there yet.

    Raises:
        UsageError: If the folder it names is none.
    """
    from trtune.errors import UsageError
    from trtune.paths import sessions_dir

    if args.folder is None:
        return sessions_dir()
    folder: Path = args.folder.expanduser()
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    return folder


def require_session(told: str, *, to_write: bool = False) -> Path:
    """The session a user names; one in a pack is unpacked, to a folder that goes away with the program.

    Args:
        told: Its path, or its name in the sessions folder.
        to_write: Whether it is to be written to: what is written to an unpacked one would be lost.

    Raises:
        NotASession: If there is none, or a pack cannot be unpacked.
        UsageError: If a pack is to be written to.
    """
    import atexit

    from sessions.errors import NotASession
    from trtune.errors import UsageError
    from trtune.paths import find_session, sessions_dir

    path = find_session(told)
    if not path.is_file():
        raise NotASession(f"{told}: no such session, neither here nor in {sessions_dir()}; see: trtune sessions")
    with path.open("rb") as file:
        if file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC:  # no pack: the screen need not wait for what unpacks
            return path
    from sessions.packing import Readable, is_packed

    if not is_packed(path):
        return path
    if to_write:
        raise UsageError(f"{told} is a pack, which is only read: first trtune sessions unpack {told}")
    readable = Readable(path)
    atexit.register(readable.close)
    return readable.path
