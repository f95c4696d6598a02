"""List the sessions there are; verify, repair, pack, unpack, prune and rescore them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    from trtune.cli import _keeping, _rescore

    parser.set_defaults(run=_list, folder=None)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands (default: list)")
    listing = commands.add_parser("list", help="the sessions there are, newest first")
    listing.add_argument("folder", nargs="?", type=Path, help="folder to look in (default: the sessions folder)")
    listing.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object a line"
    )  # SUPPRESS: one before the word list counts too
    _keeping.add_commands(commands)
    _rescore.add_command(commands)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    return int(args.run(args))


def _list(args: argparse.Namespace) -> int:
    import orjson

    from sessions.text import clean_line
    from trtune.cli._common import wanted_folder
    from trtune.paths import known_sessions

    folder = wanted_folder(args)
    entries = [_entry(path) for path in known_sessions(folder)]
    for entry in entries:
        print(orjson.dumps(entry).decode() if args.json else clean_line(_line(entry)))
    if not entries and not args.json:
        print(f"no sessions in {folder}; begin with: trtune demo")
    return 0


def _entry(path: Path) -> dict[str, Any]:
    from sessions.holding import is_written
    from sessions.reader import SessionReader
    from sessions.summary import summarise_session
    from trtune.errors import error_line
    from trtune.paths import path_text
    from tui.harmless import READ_ERRORS

    try:
        with SessionReader(path) as reader:
            meta, trials, status = reader.meta(), reader.trials(), reader.worker()
        summary = summarise_session(trials, meta)
        state = "live" if is_written(path) else status.state if status is not None and status.over else "cut off"
    except (*READ_ERRORS, OSError) as error:
        return {"path": path_text(path), "state": "unreadable", "text": error_line(error)}
    told = meta.get("engine")
    engine = told if isinstance(told, dict) else {}
    return {
        "path": path_text(path),
        "state": state,
        "kind": meta.get("kind"),
        "name": meta.get("name"),
        "engine": engine.get("name"),
        "model": engine.get("model"),
        "simulated": bool(engine.get("simulated")),
        "trials": len(trials),
        "best": None if summary.best is None else summary.best.score,
        "gain": summary.gain,
        "text": "" if status is None else status.text,
    }


def _line(entry: dict[str, Any]) -> str:
    from trtune.follow import gain_text

    name = Path(entry["path"]).name
    if entry["state"] == "unreadable":
        return f"{name}  unreadable: {entry['text']}"
    what = " ".join(str(part) for part in (entry["kind"], entry["engine"], entry["model"]) if part)
    simulated = " (simulated)" if entry["simulated"] else ""
    return f"{name}  {entry['state']:8} {what}{simulated}  {entry['trials']} trials  gain {gain_text(entry['gain'])}"
