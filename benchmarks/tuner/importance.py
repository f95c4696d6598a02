"""How often the knob that matters most is named first, by the main effects of a Gaussian process and by PED-ANOVA.

`python -m benchmarks.tuner.importance`: random trials of a made-up server with one dominant knob, one weak one and one without
effect; the noise is 2 %.
"""

from __future__ import annotations

import random
import sys

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from engines.knob import Knob
from tuner.search.explanation import explain_knobs
from tuner.search.history import Observation
from tuner.search.objective import Objective
from tuner.search.space import Space, build_space

KNOBS = (
    Knob("strong", "choice", 1, choices=(1, 2, 3), searched=True),
    Knob("weak", "float", 0.5, low=0, high=1, searched=True),
    Knob("idle", "int", 1, low=1, high=9, searched=True),
)
OBJECTIVE = Objective("output_token_throughput", "avg", "maximize")
SEEDS = 20
COUNTS = (6, 8, 12, 20, 40)


def trials(count: int, seed: int) -> list[Observation]:
    """Random configurations and what they reach."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        params = {"strong": rng.choice((1, 2, 3)), "weak": rng.random(), "idle": rng.randint(1, 9)}
        found.append(Observation(params, (100 + 20 * params["strong"] + 15 * params["weak"]) * rng.gauss(1, 0.02)))
    return found


def first_by_effects(space: Space, told: list[Observation]) -> str:
    """The knob that our importances name first."""
    found = explain_knobs(space, OBJECTIVE, told)
    return "" if found is None else next(iter(found.importance))


def first_by_ped_anova(space: Space, told: list[Observation]) -> str:
    """The knob that PED-ANOVA names first."""
    study = optuna.create_study(direction="maximize")
    for each in told:
        trial = optuna.trial.create_trial(
            params=dict(each.params), distributions=dict(space.distributions), value=each.value
        )
        study.add_trial(trial)
    return next(iter(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.25))))


def main() -> int:
    """Print the table."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = build_space(KNOBS, {}, {})
    print(f"| trials | main effects, of {SEEDS} | PED-ANOVA, of {SEEDS} |\n|---|---|---|")
    for count in COUNTS:
        sets = [trials(count, seed) for seed in range(SEEDS)]
        ours = sum(first_by_effects(space, told) == "strong" for told in sets)
        theirs = sum(first_by_ped_anova(space, told) == "strong" for told in sets)
        print(f"| {count} | {ours} | {theirs} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
