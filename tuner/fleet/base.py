"""Where trials run, as the tuning job sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuner.trial import Order, TrialResult


class Fleet(Protocol):
    """Places for trials: on this host, or on the nodes of a cluster."""

    @property
    def lanes(self) -> int:
        """Trials side by side at most."""
        ...

    def room(self, gpus: int) -> int:
        """How many trials of so many GPUs each can run at the same time."""
        ...

    async def run(self, order: Order, gpus: int, on_number: Callable[[int], None]) -> TrialResult:
        """Run a trial as soon as there is a place for it.

        Args:
            order: What is to be run.
            gpus: GPUs it needs, all on one host.
            on_number: Told the trial's number in the session; once more when it has to begin again elsewhere.

        Returns:
            What became of it; `interrupted` with the number `NOT_BEGUN` when the work ended before there was a place.

        Raises:
            BadPlan: If no host has that many GPUs.
        """
        ...

    async def close(self) -> None:
        """Let go of all places."""
        ...
