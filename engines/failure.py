"""Why a server did not start or did not go on, and which line of its log says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re


@dataclass(frozen=True, slots=True)
class FailureRule:
    """A log line that means a known failure.

    Attributes:
        kind: Short name: `out_of_memory`, `bad_config`, `port_in_use`, `no_gpu`, ...
        pattern: Searched in every log line.
        text: What it means and what to do, for a person; `{name}` stands for the pattern's group of that name.
        accuses: Knobs whose value caused it, most likely first.
        fatal: Whether the start cannot succeed after this line, so that waiting may stop.
        infeasible: Whether the configuration is to blame (and not a passing trouble such as a taken port).
    """

    kind: str
    pattern: re.Pattern[str]
    text: str
    accuses: tuple[str, ...] = ()
    fatal: bool = True
    infeasible: bool = True

    def explain(self, line: str) -> str:
        """The text with the parts of the line that it names; of the line only printable characters are taken."""
        match = self.pattern.search(line)
        groups = match.groupdict(default="?") if match else {}
        shown = {name: "".join(filter(str.isprintable, value)) for name, value in groups.items()}
        return self.text.format_map(shown) if shown else self.text


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a server did not start or did not go on.

    Attributes:
        kind: As in `FailureRule`, or `exited`, `timeout`, `died`, `hung`.
        text: One line for a person.
        line: The telling log line, or an empty string.
        accuses: Knobs to move, most likely first.
        exit_code: Exit status of the process, if it ended.
        infeasible: Whether the configuration is to blame (and not a passing trouble such as a taken port).
    """

    kind: str
    text: str
    line: str = ""
    accuses: tuple[str, ...] = ()
    exit_code: int | None = None
    infeasible: bool = True
