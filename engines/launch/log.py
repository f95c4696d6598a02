"""A server's log: read line by line, kept within bounds, searched for the failures the engine knows."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from engines.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.failure import FailureRule

FIRST_LINES = 500
LAST_LINES = 2000
MAX_LINE_CHARS = 4000
_CUT_MARK = " …"
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class LineSplitter:
    """Turns bytes from a pipe into lines of text.

    Invalid UTF-8 is replaced, colours are removed, long lines are cut, and of a progress bar (parts separated by
    carriage returns) the last state stays, as on a terminal.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines completed by these bytes."""
        *complete, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_CHARS:
            self._rest = self._rest.rpartition(b"\r")[2][: 4 * MAX_LINE_CHARS]
        return [_clean(line) for line in complete]

    def close(self) -> list[str]:
        """The last line, if it had no line end."""
        rest, self._rest = self._rest, b""
        return [_clean(rest)] if rest else []


def _clean(line: bytes) -> str:
    shown = line.rstrip(b"\r").rpartition(b"\r")[2]
    text = _ANSI.sub("", shown.decode("utf-8", "replace"))
    return text if len(text) <= MAX_LINE_CHARS else text[:MAX_LINE_CHARS] + _CUT_MARK


class ServerLog:
    """First and last lines of a log, and which known failures it named.

    Every line is searched when it arrives, so a telling line counts even if it is no longer kept: the last lines of a
    failed start are usually generic (contract trtllm 8).
    """

    def __init__(self, rules: Sequence[FailureRule]) -> None:
        self._rules = rules
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._found: dict[int, str] = {}
        self.fatal_seen = False

    def add(self, line: str) -> None:
        """Keep the line and search it."""
        if len(self._first) < FIRST_LINES:
            self._first.append(line)
        else:
            self._last.append(line)
        for number, rule in enumerate(self._rules):
            if number not in self._found and rule.pattern.search(line):
                self._found[number] = line
                self.fatal_seen = self.fatal_seen or rule.fatal

    @property
    def lines(self) -> tuple[str, ...]:
        """The kept lines: the first ones and the last ones."""
        return (*self._first, *self._last)

    def forget_failures(self) -> None:
        """Start over, once the server is ready: what it said before did not stop it."""
        self._found.clear()
        self.fatal_seen = False

    def failure(self, exit_code: int | None = None) -> Failure | None:
        """The best-matching known failure: rules are ordered from specific to generic, the first one found wins."""
        if not self._found:
            return None
        number = min(self._found)
        rule = self._rules[number]
        line = self._found[number].strip()
        return Failure(rule.kind, rule.explain(line), line, rule.accuses, exit_code, rule.infeasible)
