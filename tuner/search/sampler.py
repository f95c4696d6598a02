"""The search's strategy in the form of an Optuna sampler, and Optuna's own samplers by name."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Final

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from tuner.errors import BadPlan
from tuner.search.record import observations_of
from tuner.search.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from tuner.search.history import Observation
    from tuner.search.strategy import Strategy

ROOFLINE: Final = "roofline"


class RooflineSampler(BaseSampler):
    """Proposes by `Strategy` from the finished trials of the study; begun ones are not proposed again."""

    def __init__(
        self,
        strategy: Strategy,
        distributions: Mapping[str, BaseDistribution],
        seed: int,
        known: Sequence[Observation] = (),
    ) -> None:
        """Wrap a strategy.

        Args:
            strategy: Chooses.
            distributions: The whole search space.
            seed: For values that the strategy does not choose.
            known: What older sessions say.
        """
        self._strategy = strategy
        self._distributions = dict(distributions)
        self._random = optuna.samplers.RandomSampler(seed=seed)
        self._known = list(known)
        self._last: Mapping[str, Any] | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Every knob is chosen together with the others."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The strategy's proposal; nothing when everything that may work was tried."""
        begun = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        pending = [other.params for other in begun if other.number != trial.number and other.params]
        with one_thread():
            proposal = self._strategy.propose(observations_of(study) + self._known, trial.number, pending)
        self._last = proposal
        return {} if proposal is None else proposal

    def repeats(self, searched: Mapping[str, Any]) -> int:
        """How often a configuration that was measured may be measured again: only a leader that the strategy has just chosen."""
        return self._strategy.most_repeats if searched == self._last else 0

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value: only when there is no proposal."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def optuna_sampler(name: str, seed: int) -> BaseSampler:
    """One of Optuna's own samplers; all of them see broken SLOs and failures as broken constraints.

    Args:
        name: `tpe`, `gp`, `nsga2` or `random`.
        seed: Makes it repeatable.

    Raises:
        BadPlan: If there is no such sampler, or it needs a library that is not installed.
    """
    make = _OPTUNAS.get(name)
    if make is None:
        raise BadPlan(f"search.sampler = {name!r}: there are {', '.join((ROOFLINE, *_OPTUNAS))}")
    missing = [library for library in _NEEDS.get(name, ()) if importlib.util.find_spec(library) is None]
    if missing:
        raise BadPlan(
            f"search.sampler = {name!r} needs {' and '.join(missing)}, which is not installed: install it, or use {ROOFLINE}"
        )
    return make(seed)


_NEEDS: Final = {"gp": ("scipy", "torch")}
"""Libraries that Optuna's samplers import at their first proposal, which is too late for a clear word."""


_OPTUNAS: Final[Mapping[str, Callable[[int], BaseSampler]]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(
        seed=seed, multivariate=True, n_startup_trials=6, n_ei_candidates=48
    ),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(population_size=12, seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
