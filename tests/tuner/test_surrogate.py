"""The model: it interpolates, doubts where nothing was measured, and finds out that a prior is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.search.surrogate import Points, Surrogate, expected_improvement


def points(x: np.ndarray, prior: np.ndarray | None = None, session: int = 0) -> Points:
    told = np.zeros(len(x)) if prior is None else prior
    return Points([x[:, None]], told[:, None], np.full(len(x), session))


def test_it_goes_through_what_was_measured_and_doubts_elsewhere() -> None:
    x = np.linspace(0, 0.5, 8)
    model = Surrogate([False], has_prior=False)
    model.fit(points(x), np.sin(3 * x)[:, None])

    mean, deviation = model.predict(points(np.array([0.25, 1.0])))

    assert mean[0, 0] == pytest.approx(np.sin(0.75), abs=0.05)
    assert deviation[1] > 3 * deviation[0]


def test_a_right_prior_is_trusted_and_a_wrong_one_is_not() -> None:
    x = np.linspace(0, 1, 16)
    truth = np.sin(5 * x)
    rng = np.random.default_rng(3)
    right, wrong = Surrogate([False], has_prior=True), Surrogate([False], has_prior=True)

    right.fit(points(x, truth), (truth + 2)[:, None])
    wrong.fit(points(x, rng.normal(0, 1, 16)), (truth + 2)[:, None])

    assert right.fit_now.trust == 1
    assert wrong.fit_now.trust <= 0.25


def test_a_prior_shifted_by_a_constant_is_still_right() -> None:
    x = np.array([0.0, 0.5])
    model = Surrogate([False], has_prior=True)
    model.fit(points(x, x * 4), (x * 4 + 7)[:, None])

    mean, _ = model.predict(points(np.array([1.0]), np.array([4.0])))

    assert mean[0, 0] == pytest.approx(11, abs=0.1)


def test_an_older_session_tells_the_shape_but_not_the_height() -> None:
    older, own = np.linspace(0, 1, 12), np.array([0.0])
    model = Surrogate([False], has_prior=False)
    both = points(older, session=1).and_also(points(own))
    model.fit(both, np.append(np.sin(3 * older) - 0.4, 0.0)[:, None])

    mean, _ = model.predict(points(np.array([0.0, 0.5])))

    assert mean[0, 0] == pytest.approx(0, abs=0.1), "the own measurement"
    assert mean[1, 0] - mean[0, 0] == pytest.approx(np.sin(1.5), abs=0.2)


def test_what_runs_elsewhere_is_doubted_less_and_moves_no_belief() -> None:
    x = np.linspace(0, 0.3, 5)
    model = Surrogate([False], has_prior=False)
    model.fit(points(x), np.sin(3 * x)[:, None])
    near = points(np.array([0.95]))
    before, doubt = model.predict(near)

    model.imagine(points(np.array([1.0])))
    after, doubt_after = model.predict(near)

    assert after[0, 0] == pytest.approx(before[0, 0], abs=0.02)
    assert doubt_after[0] < 0.7 * doubt[0]


@given(st.floats(-3, 3), st.floats(0.01, 2))
def test_the_expected_improvement_is_never_less_than_the_certain_gain(mean: float, deviation: float) -> None:
    gain = expected_improvement(np.array([mean]), np.array([deviation]), 0.0)[0]

    assert gain >= max(mean, 0.0) - 1e-6
    assert gain <= max(mean, 0.0) + deviation
