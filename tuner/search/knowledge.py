"""What a search knows beforehand: which configurations can work, what they may reach, and how many GPUs they take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from engines.models import Checkpoint, ModelShape
from tuner.search.feasibility import Feasibility
from tuner.search.prior import Roofline
from tuner.search.problem import Meaning
from tuner.search.settings import SettingsReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engines.knob import Value
    from tuner.search.encoding import Grid
    from tuner.search.objective import Objective
    from tuner.search.problem import Hardware, Prior, WorkloadShape
    from tuner.search.settings import Settings

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]

_PARALLEL = (Meaning.TENSOR_PARALLEL, Meaning.PIPELINE_PARALLEL, Meaning.REPLICAS)


class Knowledge:
    """Feasibility and prior for the configurations of one problem; what is not known is not assumed."""

    def __init__(
        self,
        defaults: Mapping[str, Value],
        objectives: Sequence[Objective],
        *,
        hardware: Hardware | None,
        model: Checkpoint | ModelShape | None,
        workload: WorkloadShape | None,
        meanings: Mapping[str, Meaning] | None,
        prior: Prior | Literal["roofline", "none"],
    ) -> None:
        """Put together what there is; the arguments are those of `Search`.

        Args:
            defaults: Value of every knob where a configuration does not name it.
            objectives: What counts as better.
            hardware: The GPUs.
            model: Shape of the model, or checkpoint with its precision.
            workload: Lengths and levels of the load.
            meanings: What knobs with unusual names stand for.
            prior: `roofline`, `none`, or the caller's own.
        """
        checkpoint = Checkpoint(model) if isinstance(model, ModelShape) else model
        self._objectives = tuple(objectives)
        self._reader = SettingsReader(defaults, checkpoint, meanings)
        self._feasibility: Feasibility | None = None
        if hardware and checkpoint:
            self._feasibility = Feasibility(hardware, checkpoint, workload, self._reader)
            if prior == "roofline" and workload:
                prior = Roofline(hardware, checkpoint, workload)
        covered = not isinstance(prior, str) and all(prior.covers(each) for each in objectives)
        self._prior: Prior | None = prior if covered else None  # type: ignore[assignment]  # no text is covered

    @property
    def has_prior(self) -> bool:
        """Whether anything can be told before it is measured."""
        return self._prior is not None

    def feasible(self, grid: Grid, codes: Codes) -> NDArray[np.bool_]:
        """Which rows of codes may work."""
        if self._feasibility is None:
            return np.ones(len(codes), dtype=np.bool_)
        return self._feasibility.mask(self._reader.of_grid(grid, codes))

    def rejection(self, params: Mapping[str, Value]) -> str | None:
        """Why a configuration cannot work, in words, or None."""
        rejected = None if self._feasibility is None else self._feasibility.rejection(params)
        return rejected.reason if rejected else None

    def estimate(self, grid: Grid, codes: Codes) -> Array:
        """Utilities by the prior: by row, level and objective. With one objective only the best level is told."""
        assert self._prior is not None
        settings = self._reader.of_grid(grid, codes)
        if len(self._objectives) == 1:
            return self._prior.utility(settings, self._objectives[0])[:, None, None]
        return np.stack([_by_level(self._prior, settings, each) for each in self._objectives], axis=2)

    def expected_level(self, params: Mapping[str, Value]) -> float | None:
        """The load at which a configuration should be at its best within the SLOs; None without a prior."""
        if self._prior is None:
            return None
        return float(self._prior.best_level(self._reader.of_params([params]), self._objectives[0])[0])

    def gpus(self, params: Mapping[str, Value]) -> int | None:
        """GPUs that a configuration takes; None when no knob tells."""
        settings = self._reader.of_params([params])
        if not any(settings.has(each) for each in _PARALLEL):
            return None
        return round(float(np.prod([settings.get(each, 1)[0] for each in _PARALLEL])))


def _by_level(prior: Prior, settings: Settings, objective: Objective) -> Array:
    """Utilities at each level; of a prior that tells only the best one, that one."""
    if isinstance(prior, Roofline):
        return prior.level_utilities(settings, objective)
    return prior.utility(settings, objective)[:, None]
