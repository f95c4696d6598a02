"""The errors of the command line, and the exit status of each error a person can meet."""

from __future__ import annotations

from engines.errors import BadConfiguration, EngineError, MissingProgram, Unreachable
from sessions.errors import BadCondition, SessionError
from sessions.text import clean_line
from tuner.errors import BadPlan, TunerError
from tuner.load.errors import LoadError

DONE = 0
FAILED = 1
USAGE = 2
NOTHING_FEASIBLE = 3
UNREACHABLE = 4
REGRESSION = 5
STOPPED = 130


class UsageError(Exception):
    """Something the user wrote is wrong; the text says what, where, and what is allowed."""


KNOWN_ERRORS = (UsageError, EngineError, TunerError, SessionError, LoadError, OSError)
"""Every error that is shown as one line."""

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (UsageError, USAGE),
    (BadPlan, USAGE),
    (BadCondition, USAGE),
    (BadConfiguration, USAGE),
    (Unreachable, UNREACHABLE),
    (MissingProgram, UNREACHABLE),
)


def error_line(error: Exception) -> str:
    """An error as one line that a terminal may show, whoever's words it quotes."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return clean_line(f"{error.filename}: {error.strerror}")
    return clean_line(" ".join(str(error).split())) or type(error).__name__


def fault_line(error: Exception) -> str:
    """A fault of our own as one line, for the screen and the terminal."""
    return f"a fault in trtune: {type(error).__name__}: {error_line(error)[:200]}"


def exit_status(error: Exception) -> int:
    """The exit status for an error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), FAILED)
