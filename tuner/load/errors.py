"""What can go wrong while generating load.

LoadError
 ├─ BadWorkload        a workload, dataset or limit cannot be used as written
 ├─ Unreachable        not one connection to the server could be opened
 └─ GeneratorLost      the generator process ended or stopped answering
"""

from __future__ import annotations


class LoadError(Exception):
    """Base of every error about load; its text is one line fit for a person."""


class BadWorkload(LoadError):
    """A workload, a dataset or a limit cannot be used as it is written."""


class Unreachable(LoadError):
    """Not one connection to the server could be opened."""


class GeneratorLost(LoadError):
    """The generator process ended, or no longer answers."""
