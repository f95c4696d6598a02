"""The server's own forms: its configuration file, its command line, its variables."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from engines.launch.spec import OUTPUT
from sessions.text import clean_line
from trtune.errors import UsageError
from trtune.exports.winner import CONFIG_FOLDER

if TYPE_CHECKING:
    from engines.launch.spec import LaunchSpec
    from trtune.exports.winner import Winner


def config(winner: Winner) -> str:
    """The server's configuration file.

    Raises:
        UsageError: If it has none, or several.
    """
    files = winner.process().files
    if not files:
        raise UsageError(f"{winner.engine.title} takes no configuration file; try --format command")
    if len(files) > 1:
        raise UsageError(f"{winner.engine.title} has {len(files)} files; try --format command, or that of one of them")
    return "".join(f"# {winner.note()}\n# file {path.name}\n{text}" for path, text in files.items())


def command(winner: Winner) -> str:
    """The command line, after what it needs has been written and built: a script for a shell."""
    spec = winner.process()
    words = shell_words(spec.argv)
    variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in spec.environment.items())
    return f"#!/bin/sh\n# {winner.note()}\nset -eu\n{write_files(spec)}{variables}{_build_lines(spec)}exec {words}\n"


def environment(winner: Winner) -> str:
    """The variables, as `docker run --env-file` and systemd's `EnvironmentFile` take them; no secret is among them.

    Raises:
        UsageError: If the server is not set by variables.
    """
    spec = winner.process()
    if not spec.environment:
        raise UsageError(f"{winner.engine.title} is not set by variables; try --format command")
    lines = [f"{name}={' '.join(value.splitlines())}" for name, value in spec.environment.items()]
    flags = sorted(name for name in winner.trial.params if name not in spec.environment)
    told = [f"# no variables but flags, see --format command: {', '.join(map(clean_line, flags))}"] if flags else []
    return "\n".join([f"# {winner.note()}", *told, *lines]) + "\n"


def shell_words(argv: tuple[str, ...]) -> str:
    """A command for a shell, an option a line."""
    lines: list[list[str]] = [[]]
    for word in argv:
        if word.startswith("-") and lines[-1]:
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return " \\\n  ".join(" ".join(line) for line in lines)


def local_path(path: Path) -> str:
    """Where a file of the server lies under the working folder."""
    return str(path.relative_to(CONFIG_FOLDER) if path.is_relative_to(CONFIG_FOLDER) else path)


def write_files(spec: LaunchSpec) -> str:
    """Shell lines that write the server's files under the working folder."""
    folders = sorted({str(Path(local_path(path)).parent) for path in spec.files} - {"."})
    parts = [f"mkdir -p {' '.join(map(shlex.quote, folders))}\n"] if folders else []
    for path, text in spec.files.items():
        end = "END_OF_FILE"
        while end in text:
            end += "_"
        target = shlex.quote(local_path(path))
        parts.append(f"cat > {target} <<'{end}'\n{text if text.endswith(chr(10)) else text + chr(10)}{end}\n")
    return "".join(parts)


def _build_lines(spec: LaunchSpec) -> str:
    """Shell lines that build what is not there yet; each folder appears whole or not at all."""
    parts = []
    for step in spec.builds:
        output, draft = shlex.quote(str(step.output)), f"{step.output}.part"
        words = shell_words(tuple(draft if word == OUTPUT else word for word in step.argv))
        parts.append(
            f"if [ ! -d {output} ]; then\n"
            f"mkdir -p {shlex.quote(str(step.output.parent))}\nrm -rf {shlex.quote(draft)}\n"
            f"{words}\nmv {shlex.quote(draft)} {output}\nfi\n"
        )
    return "".join(parts)
