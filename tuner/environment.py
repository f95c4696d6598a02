"""The worker's own environment, and taking it away again before a server inherits it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

BLAS_THREADS = "OPENBLAS_NUM_THREADS"
_OURS = "TRTUNE_BLAS_THREADS"


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add for a worker: one thread for its small matrices, so that the cores stay with the server under test.

    A choice of the user's own is left alone.
    """
    return {} if BLAS_THREADS in environment else {BLAS_THREADS: "1", _OURS: "1"}


def restore(environment: MutableMapping[str, str]) -> None:
    """Take away what was added, once numpy is loaded: a server that is started must find the user's environment."""
    if environment.pop(_OURS, None):
        environment.pop(BLAS_THREADS, None)
