"""What can go wrong with a server.

EngineError
 ├─ BadConfiguration    a knob or option the engine does not know, or a value it cannot take
 ├─ StartFailed         the server ended or did not become ready; carries the `Failure`
 │   └─ CannotStart     no configuration of this plan can be started here: no image, no permission, no namespace
 ├─ Unreachable         nobody answers at the URL
 │   └─ NoRuntime       no Docker daemon or cluster answers, or not to this user: nothing can be started
 └─ MissingProgram      the program that would be started is not on this host
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.failure import Failure


class EngineError(Exception):
    """Base of every error about a server; its text is one line fit for a person."""


class BadConfiguration(EngineError):
    """A knob or an option is unknown to the engine, or its value is not allowed."""


class StartFailed(EngineError):
    """The server ended before it was ready, or was not ready in time.

    Attributes:
        failure: What is known about the cause.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class CannotStart(StartFailed):
    """What is missing or forbidden is missing for every configuration: another trial would fail the same way."""


class Unreachable(EngineError):
    """Nobody answers at the URL."""


class NoRuntime(Unreachable):
    """No Docker daemon or cluster answers, or not to this user: nothing can be started."""


class MissingProgram(EngineError):
    """The program to start is not on this host."""
