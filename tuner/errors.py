"""What can go wrong with the work itself.

TunerError
 ├─ BadPlan            a plan contradicts itself or the engine
 └─ NothingToSearch    the plan leaves no knob to change
"""

from __future__ import annotations


class TunerError(Exception):
    """Base of every error about the work; its text is one line fit for a person."""


class BadPlan(TunerError):
    """The plan contradicts itself, or asks the engine for what it does not have."""


class NothingToSearch(BadPlan):
    """The plan leaves no knob to change."""
