"""Compare sessions or trials: settings, conditions, and results with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from sessions.comparison import Comparison, Side
    from sessions.fail_if import Finding

EPILOG = """\
A session stands for its best trial; FILE#NUMBER names another one. The first is what the others are compared with.

conditions:
  --fail-if 'ttft_p99 > +5%'                    the change against the first, as a share
  --fail-if 'tpot_p99 > +2ms'                   the change in the metric's unit
  --fail-if 'error_ratio > 0.01'                the value itself
  --fail-if 'output_token_throughput < -3% at 32'   at one load only
  With --significant only what is beyond the limit with its whole 95 % interval counts.

exit status: 5 when a condition holds, 1 when its metric was not measured

examples:
  trtune compare before.trtune after.trtune
  trtune compare run.trtune#0 run.trtune#7 -o report.html
  trtune compare base.trtune new.trtune --fail-if 'ttft_p99 > +5%' --fail-if 'output_token_throughput < -3%' --significant
"""


FORMS = {"html": ".html", "md": ".md"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("sides", nargs="+", metavar="SESSION[#TRIAL]", help="two or more sessions or trials")
    parser.add_argument("--fail-if", action="append", default=[], metavar="CONDITION", help="exit with 5 when it holds")
    parser.add_argument("--significant", action="store_true", help="conditions count only beyond the noise")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write a page (.html) or Markdown (.md) instead; - for standard output"
    )
    parser.add_argument(
        "--format", choices=FORMS, help="what to write (default: by the output's name, else html); prints it without -o"
    )
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII characters only")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    import sys

    from sessions.compare import COMPARED, compare
    from sessions.fail_if import FailIf
    from trtune.cli.report import form_of, put
    from trtune.errors import REGRESSION, UsageError

    if len(args.sides) < 2:
        raise UsageError("compare needs two sessions or trials at least; 'trtune compare --help' has examples")
    if args.json and (args.output or args.format):
        raise UsageError("give --json, which prints, or a page by --output and --format, not both")
    form = (args.format or form_of(args.output, FORMS)) if args.output or args.format else None
    conditions = [FailIf.parse(text) for text in args.fail_if]
    wanted = dict.fromkeys([*COMPARED, *((each.metric, each.stat) for each in conditions)])
    told = compare([_side(text) for text in args.sides], list(wanted))
    findings = [found for each in conditions for found in each.judge(told, significant=args.significant)]
    if form:
        put(_written(told, form), args.output or "-", force=args.force)
    elif args.json:
        _print_json(told, findings)
    else:
        _print_lines(told, ascii_only=args.ascii)
    for found in findings:
        verdict = "HOLDS" if found.holds else "does not hold"
        print(f"{found.condition}: {verdict} at {found.load} for {found.side} ({found.text})", file=sys.stderr)
    return REGRESSION if any(found.holds for found in findings) else 0


def _side(text: str) -> Side:
    """The side that a word of the command line names.

    Raises:
        UsageError: If the trial is no number.
    """
    from sessions.compare import take_side
    from sessions.reader import SessionReader
    from trtune.cli._common import require_session
    from trtune.errors import UsageError

    name, mark, number = text.rpartition("#")
    if mark and not number.isdecimal():
        raise UsageError(f"{text}: after # comes the number of a trial, counted from 0")
    with SessionReader(require_session(name if mark else text)) as reader:
        return take_side(reader, int(number) if mark else None)


def _written(told: Comparison, form: str) -> bytes:
    if form == "md":
        from sessions.report.markdown import comparison_markdown

        return comparison_markdown(told).encode()
    from sessions.report.page import comparison_page

    return comparison_page(told).encode()


def _print_lines(told: Comparison, *, ascii_only: bool) -> None:
    import sys

    from trtune.compared import comparison_lines
    from tui.glyphs import ASCII, BLOCK

    plain = ascii_only or "utf" not in (sys.stdout.encoding or "").lower()
    for line in comparison_lines(told, ASCII if plain else BLOCK):
        print(line)


def _print_json(told: Comparison, findings: Sequence[Finding]) -> None:
    import orjson

    facts = {**comparison_facts(told), "findings": list(findings)}
    print(orjson.dumps(facts).decode())


def comparison_facts(told: Comparison) -> dict[str, Any]:
    """A comparison as JSON output has it."""
    sides = [
        {
            "name": side.name,
            "path": side.path,
            "trial": side.trial.number,
            "simulated": side.simulated,
            "params": side.trial.params,
            "score": side.trial.score,
            "feasible": side.trial.feasible,
        }
        for side in told.sides
    ]
    return {
        "sides": sides,
        "params": told.params,
        "conditions": told.conditions,
        "loads": told.loads,
        "method": told.method,
        "notes": told.notes,
    }
