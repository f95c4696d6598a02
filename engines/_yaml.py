"""Reads YAML that somebody else wrote: in bounds, and with every fault told in one line.

PyYAML's own scanner takes a minute over 50 kB of opening brackets, and its recursion ends in a traceback: nesting is
counted in the events of the parser, which come one by one, before anything is built of them.
"""

from __future__ import annotations

from typing import Any

import yaml

from engines.errors import BadConfiguration

DEEPEST = 64
"""Deepest nesting that is read; files of settings have less than ten."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Builds plain values only; libyaml's, where PyYAML was built with it, is ten times as fast."""


def load_yaml(text: str, where: str, *, form: str = "YAML", aliases: bool = True) -> Any:
    """The value of a YAML text.

    Args:
        text: The text.
        where: What it is, for the error: its file.
        form: What it should be, for the error: JSON is YAML as well.
        aliases: Whether values may stand for others (`*name`): a few lines of them can stand for gigabytes.

    Raises:
        BadConfiguration: In one line, with the place in the text.
    """
    try:
        _check(text, where, aliases=aliases)
        return yaml.load(text, Loader=LOADER)  # noqa: S506 - one of the two safe loaders
    except yaml.MarkedYAMLError as error:
        raise BadConfiguration(f"{where} is not {form}{_place(text, error)}") from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise BadConfiguration(f"{where} is not {form}: {str(error).partition(chr(10))[0]}") from error


def _check(text: str, where: str, *, aliases: bool) -> None:
    """Refuse what is cheap to write and dear to build."""
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.AliasEvent) and not aliases:
            raise BadConfiguration(f"{where} uses YAML aliases (*name): write the values out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            line = f" in line {event.start_mark.line + 1}" if event.start_mark else ""
            raise BadConfiguration(f"{where} nests more than {DEEPEST} levels deep{line}: that is too deep to be read")


def _place(text: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    if mark is None:
        return f": {error.problem}"
    tab = "; indent with spaces, not tabs" if text[mark.index : mark.index + 1] == "\t" else ""
    return f" in line {mark.line + 1}: {error.problem}{tab}"
