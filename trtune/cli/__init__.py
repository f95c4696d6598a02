"""The command line: one module a command, imported only when that command is used."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "setup": "find servers, GPUs and models here, and begin from the screen",
    "demo": "tune a simulated server: see everything work, without a GPU",
    "watch": "show live what a running server is doing",
    "bench": "measure a running server under load",
    "tune": "search the settings that serve your workload best",
    "attach": "show a session that is being worked on",
    "replay": "look at a finished session again",
    "sessions": "list, verify, repair, pack and prune sessions",
    "import": "make a session of what another tool measured",
    "screen": "the screen with the list of sessions",
    "serve": "the screen in a browser, behind a token",
    "export": "print the best configuration, or the data of a session",
    "profile": "profile a server, or print how to start it under Nsight Systems",
    "compare": "compare sessions or trials, for people and for CI",
    "report": "write a session as one HTML page, Markdown or a picture",
    "doctor": "say what this host has and what is missing",
    "simulate": "run the simulated inference server",
}
"""Commands in the order of the help, each with its one line."""

TRACEBACK = "TRTUNE_TRACEBACK"
"""Environment variable that asks for Python's own word on a fault in trtune."""

_MODULES = {"import": "importing"}
"""Modules whose command's name is a word of Python."""

_EPILOG = """\
first steps:
  trtune                                   in a terminal: the sessions there are, and a wizard for new ones
  trtune demo                              a search on a simulated server
  trtune watch http://127.0.0.1:8000       a running trtllm-serve, NIM or OpenAI-compatible server
  trtune tune plan.toml                    your server, your load, your objective

exit status: 0 done, 1 failed, 2 wrong usage, 3 nothing meets the limits, 4 target unreachable, 5 a --fail-if holds, 130 stopped
'trtune COMMAND --help' tells more about each command.
"""


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit status. Every error becomes one line on stderr."""
    name = next((word for word in arguments if not word.startswith("-")), "")
    if name not in COMMANDS or arguments[0] != name:
        return _run_without_command(arguments)
    module = importlib.import_module(f"trtune.cli.{_MODULES.get(name, name)}")
    parser = argparse.ArgumentParser(
        prog=f"trtune {name}",
        description=module.__doc__.partition("\n")[0] if module.__doc__ else None,
        epilog=getattr(module, "EPILOG", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return _guarded(module.run, parser, arguments[1:])


def _run_without_command(arguments: Sequence[str]) -> int:
    from trtune import __version__

    parser = argparse.ArgumentParser(
        prog="trtune",
        description="See what an LLM inference server is doing, and find the settings that serve your workload best.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"trtune {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, help_ in COMMANDS.items():
        subparsers.add_parser(name, help=help_, add_help=False)
    if not arguments:
        return _bare(parser)
    try:
        parser.parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    parser.print_help()
    return 2


def _bare(parser: argparse.ArgumentParser) -> int:
    """No command: the screen where there is a terminal, else the help."""
    from tui.terminal import terminal_problem

    if terminal_problem() is None:
        return run(["screen"])
    parser.print_help()
    return 0


def _guarded(command: object, parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    from trtune.errors import FAILED, KNOWN_ERRORS, STOPPED, error_line, exit_status, fault_line

    assert callable(command)
    try:
        return int(command(parser.parse_args(arguments)))
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return STOPPED
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): nothing is wrong, and nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KNOWN_ERRORS as error:
        print(f"trtune: {error_line(error)}", file=sys.stderr)
        return exit_status(error)
    except Exception as error:  # the last resort: no traceback for somebody who did not ask for it
        if os.environ.get(TRACEBACK):
            raise
        print(f"trtune: {fault_line(error)} ({TRACEBACK}=1 shows where)", file=sys.stderr)
        return FAILED
