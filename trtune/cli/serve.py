"""Show the screen in a browser: on loopback unless told, and only to who has the token."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

EPILOG = """\
examples:
  trtune serve                               the list of sessions; the address with its token is printed
  trtune serve SESSION --read-only           one session, to look at
  ssh -L 8800:127.0.0.1:8800 gpu-host trtune serve     from elsewhere: through SSH, which also encrypts

Whoever has the token can do what the screen can do: start and stop work on this host. The token changes with every start.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    from trtune.cli._common import add_screen_flags

    parser.add_argument("session", nargs="?", help="session file, or its name (default: the list of sessions)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8800, help="port to listen on (default: 8800)")
    parser.add_argument("--public-url", default="", metavar="URL", help="the address browsers use, behind a proxy")
    add_screen_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from trtune.errors import UsageError

    try:
        from trtune.web import serve
    except ImportError as error:
        raise UsageError(
            f"the browser needs a library that is missing ({error.name}): pip install 'trtune[serve]'"
        ) from error
    if not 0 < args.port < 65536:
        raise UsageError(f"--port {args.port}: must be from 1 to 65535")
    serve(screen_command(args), args.host, args.port, args.public_url)
    return 0


def screen_command(args: argparse.Namespace) -> str:
    """The command that shows the screen, once per browser tab."""
    from sessions.holding import is_written
    from trtune.cli._common import require_session

    words = [sys.executable, "-m", "trtune"]
    if args.session:
        path = require_session(args.session)
        words += ["attach" if is_written(path) else "replay", str(path.absolute())]
    else:
        words.append("screen")
    words += ["--read-only"] if args.read_only else []
    words += ["--ascii"] if args.ascii else []
    words += ["--no-mouse"] if args.no_mouse else []
    words += ["--fps", f"{args.fps:g}"] if args.fps else []
    return shlex.join(words)
