"""Write a session as a report: one HTML page that needs no network, Markdown, or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

SUFFIXES = {"html": ".html", "md": ".md", "png": ".png"}

EPILOG = """\
examples:
  trtune report SESSION                                writes SESSION.html into this folder
  trtune report SESSION -o report.html
  trtune report SESSION --format md -o - >> $GITHUB_STEP_SUMMARY
  trtune report SESSION --format png                   a picture for a pull request; needs: pip install 'trtune[report]'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("session", help="session file, or its name in the sessions folder")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write; - for standard output")
    parser.add_argument("--format", choices=SUFFIXES, help="what to write (default: by the output's name, else html)")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    parser.add_argument(
        "--dark", action="store_true", help="a dark picture (png); the page follows the reader's system"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from sessions.reader import SessionReader
    from trtune.cli._common import require_session
    from trtune.errors import UsageError
    from trtune.reporting import gather_facts, written

    form = args.format or form_of(args.output, SUFFIXES)
    if args.dark and form != "png":
        raise UsageError("--dark is for pictures (--format png); pages and Markdown follow the reader's system")
    path = require_session(args.session)
    with SessionReader(path) as reader:
        facts = gather_facts(reader)
    data = written(facts, form, dark=args.dark)
    return put(data, args.output or f"{path.stem}{SUFFIXES[form]}", force=args.force)


def form_of(output: str | None, suffixes: Mapping[str, str]) -> str:
    """What a file is to hold, by its name; HTML where that says nothing.

    Raises:
        UsageError: If the name says something that is not made here.
    """
    from trtune.errors import UsageError

    suffix = Path(output or "").suffix.lower()
    if not suffix:
        return "html"
    form = next((form for form, each in suffixes.items() if each == suffix), None)
    if form is None:
        raise UsageError(
            f"{output}: ends in none of {', '.join(suffixes.values())}; say what it is to hold with --format"
        )
    return form


def put(data: bytes, output: str, *, force: bool) -> int:
    """Write to a file, or with `-` to standard output; returns the exit status.

    Raises:
        UsageError: If the file exists and is not to be replaced.
    """
    import sys

    from trtune.errors import UsageError

    if output == "-":
        sys.stdout.buffer.write(data)
        return 0
    path = Path(output).expanduser()
    try:
        with path.open("wb" if force else "xb") as file:
            file.write(data)
    except FileExistsError as error:
        raise UsageError(f"{path}: exists already; choose another name with -o, or replace it with --force") from error
    print(f"written: {path}")
    return 0
