"""`trtune sessions verify, repair, pack, unpack, prune`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtune.errors import DONE, FAILED, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the commands."""
    verify = _command(
        commands, "verify", "read and decode everything; say what is damaged or contradicts itself", _verify
    )
    verify.add_argument("session", nargs="+", help="session file or pack, or its name in the sessions folder")
    verify.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object a line")
    repair = _command(commands, "repair", "save what can be read into a new file of the newest format", _repair)
    repair.add_argument("session", help="session file or pack, or its name in the sessions folder")
    repair.add_argument(
        "--output", type=Path, metavar="FILE", help="the new file (default: NAME.repaired.trtune beside it)"
    )
    pack = _command(commands, "pack", "one compressed, checked file to hand on, looked through for secrets", _pack)
    pack.add_argument("session", help="session file or pack, or its name in the sessions folder")
    pack.add_argument("--output", type=Path, metavar="FILE", help="the pack (default: NAME.trtune.xz in this folder)")
    pack.add_argument(
        "--anonymise",
        action="store_true",
        help="also take out host names, addresses, users' home folders and serial numbers of GPUs",
    )
    unpack = _command(commands, "unpack", "the session in a pack", _unpack)
    unpack.add_argument("pack", type=Path, help="pack (NAME.trtune.xz)")
    unpack.add_argument("--output", type=Path, metavar="FILE", help="the session (default: NAME.trtune in this folder)")
    prune = _command(commands, "prune", "delete old sessions; without --yes, only say which", _prune)
    prune.add_argument("folder", nargs="?", type=Path, help="folder to look in (default: the sessions folder)")
    prune.add_argument("--older-than", metavar="AGE", help="not written to for longer: 30d, 12h, 2w")
    prune.add_argument("--keep", type=int, metavar="N", help="all but the newest N")
    prune.add_argument("--max-size", metavar="SIZE", help="the oldest, until all together take no more: 10G, 500M")
    prune.add_argument("--empty", action="store_true", help="those without a finished trial")
    prune.add_argument("--yes", action="store_true", help="delete them")


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _verify(args: argparse.Namespace) -> int:
    import orjson

    from sessions.errors import SessionError
    from sessions.verify import verify
    from trtune.cli._common import require_session

    status = DONE
    for told in args.session:
        try:
            found = verify(require_session(told))
            problems = [str(problem) for problem in found.problems]
            facts: dict[str, Any] = {"sound": found.sound, "format": found.version, "rows": found.rows}
            count = found.problem_count
        except SessionError as error:
            problems, facts, count = [str(error)], {"sound": False}, 1
        status = status if not count else FAILED
        if args.json:
            print(orjson.dumps({"path": told, **facts, "problem_count": count, "problems": problems}).decode())
            continue
        held = ", ".join(f"{number} {name}" for name, number in facts.get("rows", {}).items() if number)
        print(
            f"{told}: sound; format {facts['format']}, {held}" if not count else f"{told}: {_things(count, 'problem')}"
        )
        for problem in problems:
            print(f"  {problem}")
        if count and len(problems) < count:
            print(f"  and {count - len(problems)} more")
    return status


def _repair(args: argparse.Namespace) -> int:
    from sessions.repair import repair
    from sessions.verify import verify
    from trtune.cli._common import require_session
    from trtune.paths import find_session

    path = require_session(args.session)
    # Beside what was named: what a pack holds lies in a folder that goes away with this program.
    into = args.output or find_session(args.session).with_name(f"{path.name.removesuffix('.trtune')}.repaired.trtune")
    saved = repair(path, into)
    print(f"{into}: {_things(saved.kept.get('trial', 0), 'trial')}, {_things(sum(saved.kept.values()), 'row')} saved")
    for table in saved.broken:
        print(f"  part of {table} is in pages that cannot be read")
    for name, number in saved.lost.items():
        print(f"  {_things(number, 'row')} of {name} could not be read")
    for name, number in saved.emptied.items():
        print(f"  {_things(number, 'value')} of {name} could not be read and is empty now")
    return DONE if verify(into).sound else FAILED


def _pack(args: argparse.Namespace) -> int:
    from sessions.packing import SUFFIX, pack
    from trtune.cli._common import require_session

    path = require_session(args.session)
    into = args.output or Path(path.name + SUFFIX)
    packed = pack(path, into, anonymise=args.anonymise, secrets=_known_secrets(path))
    print(f"{into}: {packed.pack_bytes / 1e6:.1f} MB, of a session of {packed.session_bytes / 1e6:.1f} MB")
    for kind, number in packed.secrets.items():
        print(f"  {kind}: taken out of {_things(number, 'value')}", file=sys.stderr)
    if not args.anonymise:
        print("  it names hosts and paths as they are; --anonymise takes them out")
    return DONE


def _unpack(args: argparse.Namespace) -> int:
    from sessions.packing import SUFFIX, is_packed, unpack

    if not is_packed(args.pack):
        raise UsageError(f"{args.pack} is no pack: there is no such file, or it is no xz stream")
    into = args.output or Path(args.pack.name.removesuffix(SUFFIX))
    unpack(args.pack, into)
    print(into)
    return DONE


def _prune(args: argparse.Namespace) -> int:
    from trtune.cli._common import wanted_folder
    from trtune.pruning import Wishes, candidates, parse_duration_s, parse_size_bytes, remove

    wishes = Wishes(
        older_than_s=parse_duration_s(args.older_than) if args.older_than else None,
        keep=args.keep,
        max_bytes=parse_size_bytes(args.max_size) if args.max_size else None,
        empty=args.empty,
    )
    if wishes == Wishes():
        raise UsageError("prune: say what may go: --older-than AGE, --keep N, --max-size SIZE or --empty")
    if args.keep is not None and args.keep < 0:
        raise UsageError(f"--keep {args.keep}: must be at least 0")
    chosen = candidates(wanted_folder(args), wishes)
    for candidate in chosen:
        if args.yes:
            remove(candidate)
        print(f"{candidate.path}  {candidate.size_bytes / 1e6:.1f} MB  {candidate.why}")
    total = f"{_things(len(chosen), 'session')}, {sum(each.size_bytes for each in chosen) / 1e6:.1f} MB"
    print(f"{total} deleted" if args.yes else f"{total} would be deleted; do it with --yes")
    return DONE


def _known_secrets(path: Path) -> Sequence[str]:
    """The API key that this session's plan names, if it is in our environment."""
    import os

    from sessions.reader import SessionReader

    with SessionReader(path) as reader:
        plan = reader.meta().get("plan", {})
    engine = plan.get("engine", {}) if isinstance(plan, dict) else {}
    names = [engine.get("api_key_env", ""), "NGC_API_KEY", "HF_TOKEN", "OPENAI_API_KEY", "NVIDIA_API_KEY"]
    values = [os.environ.get(str(name), "") for name in names if name]
    return [value for value in values if len(value) >= 6]


def _things(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"
