"""The actor that Ray starts on a node: `TrialHost`, told which GPUs Ray gave it."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from tuner.fleet.trial_host import TrialHost


class TrialActor(TrialHost):
    """A trial host in an actor."""

    def __init__(self, lane: str) -> None:
        """Find out which GPUs this actor has.

        Args:
            lane: Name of the lane in the driver's session.
        """
        import ray

        node = str(ray.get_runtime_context().get_node_id())
        super().__init__(lane, tuple(int(gpu) for gpu in ray.get_gpu_ids()), own_version(), node)


def own_version() -> str:
    """Version of trtune in this environment."""
    return importlib.metadata.version("trtune")


def trial_actor(ray: Any) -> Any:
    """The class as Ray takes it."""
    return ray.remote(TrialActor)
