"""Print the best configuration of a session ready to use, or the session's data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trtune.exports.formats import FORMS

if TYPE_CHECKING:
    import argparse

TABLE_FORMATS = ("csv", "parquet", "json")
TABLE_NAMES = ("trials", "levels", "phases", "requests", "tokens", "gpu", "engine", "load", "events", "log")

_WIDTH = max(len(name) for name in FORMS) + 2

EPILOG = (
    "formats:\n"
    + "".join(f"  {name.ljust(_WIDTH)} {form.help}\n" for name, form in FORMS.items())
    + f"""
tables, with --table NAME (default: trials) or --table all:
  csv, parquet, json (one object a line): {", ".join(TABLE_NAMES)}

examples:
  trtune export SESSION --format config > best.yaml
  trtune export SESSION --format docker --image nvidia/tensorrt-llm/release:1.2.0 > serve.sh
  trtune export SESSION --format kubernetes --image IMAGE | kubectl apply -f -
  trtune export SESSION --trial 4 --format json
  trtune export SESSION --format csv --table requests > requests.csv
  trtune export SESSION --format parquet --table all --output FOLDER
"""
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("session", help="session file, or its name in the sessions folder")
    parser.add_argument(
        "--format",
        choices=(*FORMS, *(name for name in TABLE_FORMATS if name not in FORMS)),
        default="config",
        metavar="FORMAT",
        help="what to print, see below (default: config)",
    )
    parser.add_argument(
        "--table", choices=(*TABLE_NAMES, "all"), metavar="NAME", help="which table, for csv, parquet and json"
    )
    parser.add_argument(
        "--trial", type=int, help="which trial (default: the best that meets every SLO; of tables, all)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write to a file that does not exist yet")
    group = parser.add_argument_group("where it goes to")
    group.add_argument("--image", default="", help="container image with its tag (default: the plan's)")
    group.add_argument("--name", default="", help="name of the service (default: from the model's)")
    group.add_argument("--port", type=int, default=8000, help="port to serve on (default: 8000)")
    group.add_argument("--gpus", type=int, default=0, help="number of GPUs (default: what its parallelism needs)")
    group.add_argument("--gpus-per-node", type=int, default=8, help="GPUs of each host, for several (default: 8)")
    group.add_argument("--url", default="", help="where the server answers, for load commands")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from sessions.reader import SessionReader
    from sessions.text import clean_lines
    from trtune.cli._common import require_session
    from trtune.errors import UsageError
    from trtune.exports.winner import Wishes

    if args.table or args.format in ("csv", "parquet"):
        return _tables(args)
    if not 0 < args.port < 65536:
        raise UsageError(f"--port {args.port}: must be from 1 to 65535")
    if args.gpus < 0:
        raise UsageError(f"--gpus {args.gpus}: must be at least 0")
    if args.gpus_per_node < 1:
        raise UsageError(f"--gpus-per-node {args.gpus_per_node}: must be at least 1")
    wishes = Wishes(
        image=args.image,
        name=args.name,
        port=args.port,
        gpus=args.gpus,
        url=args.url,
        gpus_per_node=args.gpus_per_node,
    )
    with SessionReader(require_session(args.session)) as reader:
        text = FORMS[args.format].make(reader, args.trial, wishes)
    if args.output is None:
        # A file or pipe gets every character as it is; a terminal none that it would act on.
        sys.stdout.write(clean_lines(text) if sys.stdout.isatty() else text)
    else:
        write_new(args.output, text)
    return 0


def _tables(args: argparse.Namespace) -> int:
    from trtune.cli._common import require_session
    from trtune.errors import UsageError
    from trtune.exports.tables import export_tables

    if args.format not in TABLE_FORMATS:
        raise UsageError(f"--table {args.table}: needs --format {', '.join(TABLE_FORMATS)}, not {args.format}")
    path = require_session(args.session)
    export_tables(path, args.table or "trials", args.format, trial=args.trial, output=args.output)
    return 0


def write_new(path: Path, text: str) -> None:
    """Write a file that does not exist yet.

    Raises:
        UsageError: If it exists.
    """
    from trtune.errors import UsageError

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(f"--output {path}: exists already; choose another name") from error
