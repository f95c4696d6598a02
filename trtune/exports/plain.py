"""The server's own forms: its configuration file, its command line, its variables."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from trtune.errors import UsageError

if TYPE_CHECKING:
    from engines.launch.spec import LaunchSpec
    from trtune.exports.winner import Winner


def config(winner: Winner) -> str:
    """The server's configuration file.

    Raises:
        UsageError: If it has none.
    """
    files = {path.name: text for path, text in winner.process().files.items()}
    if not files:
        raise UsageError(f"{winner.engine.title} takes no configuration file; try --format command")
    return "".join(f"# {winner.note()}\n# file {name}\n{text}" for name, text in files.items())


def command(winner: Winner) -> str:
    """The command line, after the files it needs have been written: a script for a shell."""
    spec = winner.process()
    words = shell_words(spec.argv)
    variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in spec.environment.items())
    return f"#!/bin/sh\n# {winner.note()}\nset -eu\n{write_files(spec)}{variables}exec {words}\n"


def environment(winner: Winner) -> str:
    """The variables, as `docker run --env-file` and systemd's `EnvironmentFile` take them; no secret is among them.

    Raises:
        UsageError: If the server is not set by variables.
    """
    spec = winner.process()
    if not spec.environment:
        raise UsageError(f"{winner.engine.title} is not set by variables; try --format command")
    lines = [f"{name}={' '.join(value.splitlines())}" for name, value in spec.environment.items()]
    return "\n".join([f"# {winner.note()}", *lines]) + "\n"


def shell_words(argv: tuple[str, ...]) -> str:
    """A command for a shell, an option a line."""
    lines: list[list[str]] = [[]]
    for word in argv:
        if word.startswith("-") and lines[-1]:
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return " \\\n  ".join(" ".join(line) for line in lines)


def write_files(spec: LaunchSpec, folder: str = "") -> str:
    """Shell lines that write the server's files into the working folder."""
    parts = []
    for path, text in spec.files.items():
        end = "END_OF_FILE"
        while end in text:
            end += "_"
        target = shlex.quote(f"{folder}{path.name}")
        parts.append(f"cat > {target} <<'{end}'\n{text if text.endswith(chr(10)) else text + chr(10)}{end}\n")
    return "".join(parts)
