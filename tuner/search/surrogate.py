"""A Gaussian process over what the prior got wrong: log(measured) - log(prior), for a few dozen measurements.

The covariance is a sum: a constant shift, a coarse part (parallelism, precision), each fine knob by itself, the fine knobs
together, and their product with the coarse ones. All parts are Matérn 5/2. Amplitudes, length scales, noise and the trust in the
prior are chosen from small grids by the likelihood with a penalty towards usual values, one coordinate after the other, beginning
where the last fit ended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from tuner.search.kernel import Correlations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SCALES: Final = (0.3, 0.6, 1.2, 4.0)
"""Length scales of an axis that reaches from 0 to 1; the longest says that the knob hardly matters."""

COARSE: Final = (0.05, 0.1, 0.22, 0.5, 1.0)
SINGLE: Final = (0.02, 0.06, 0.15, 0.35, 0.8)
JOINT: Final = (0.01, 0.03, 0.08, 0.2, 0.5)
NOISE: Final = (0.015, 0.03, 0.05, 0.1)
TRUST: Final = (1.0, 0.75, 0.5, 0.25, 0.0)
_SHIFT: Final = 1.0
_JITTER: Final = 1e-8
_OLDER_OFFSET: Final = 0.3
"""By how much all results of an older session may be off together."""

_OLDER_NOISE: Final = 0.1
"""By how much each of them may be off by itself, beyond the noise."""

_REFIT_ALL: Final = 60
"""With more measurements than this only a part of the settings is fitted again each time: one more point hardly moves them."""


@dataclass(frozen=True, slots=True)
class Usual:
    """Where the penalty pulls the amplitudes.

    Attributes:
        coarse: Amplitude of the coarse part.
        single: Of each fine knob by itself, all together.
        joint: Of the fine knobs together.
        noise: Standard deviation of a measurement.
    """

    coarse: float
    single: float
    joint: float
    noise: float = 0.03


WITH_PRIOR: Final = Usual(0.22, 0.1, 0.05)
WITHOUT_PRIOR: Final = Usual(0.5, 0.6, 0.15)


def usual_for(trust: float) -> Usual:
    """Usual amplitudes when so much of the prior is believed: what it does not explain is left for the model to explain."""
    low, high = WITH_PRIOR, WITHOUT_PRIOR
    return Usual(
        low.coarse**trust * high.coarse ** (1 - trust),
        low.single**trust * high.single ** (1 - trust),
        low.joint**trust * high.joint ** (1 - trust),
    )


@dataclass(frozen=True, slots=True)
class Fit:
    """What is fitted.

    Attributes:
        coarse: Amplitude of the coarse part.
        single: Of the fine knobs by themselves.
        joint: Of the fine knobs together.
        noise: Standard deviation of a measurement.
        trust: How much of the prior is believed: 1 all, 0 nothing.
        scales: Length scale of each axis.
    """

    coarse: float
    single: float
    joint: float
    noise: float
    trust: float
    scales: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Points:
    """Where something was measured or is wanted.

    Attributes:
        coordinates: Coordinates of every point, one array per axis.
        prior: Utility by the prior, a column for each that is searched; zeros without a prior.
        session: Of each point: 0 for this session, else which older one it is from.
    """

    coordinates: Sequence[Array]
    prior: Array
    session: NDArray[np.int64]

    def only(self, chosen: NDArray[np.int64]) -> Points:
        """Some of the points."""
        return Points([each[chosen] for each in self.coordinates], self.prior[chosen], self.session[chosen])

    def and_also(self, other: Points) -> Points:
        """These points and others."""
        pairs = zip(self.coordinates, other.coordinates, strict=True)
        return Points(
            [np.concatenate(pair) for pair in pairs],
            np.concatenate([self.prior, other.prior]),
            np.concatenate([self.session, other.session]),
        )


@dataclass(frozen=True, slots=True)
class _Solved:
    """The measurements solved for under some settings."""

    fit: Fit
    center: Array
    inverse: Array
    weights: Array


class Surrogate:
    """The fitted model of one utility, or of several that share their settings."""

    def __init__(self, coarse: Sequence[bool], *, has_prior: bool) -> None:
        """Begin with usual settings.

        Args:
            coarse: Of each axis: whether it belongs to the coarse part.
            has_prior: Whether there is a prior to be corrected.
        """
        self._coarse = tuple(place for place, each in enumerate(coarse) if each)
        self._fine = tuple(place for place, each in enumerate(coarse) if not each)
        self._has_prior = has_prior
        self._axes = len(coarse)
        self.fit_now = self._usual_fit(1.0 if has_prior else 0.0)
        self._turn = 0

    def fit(self, points: Points, utility: Array, column: int = 0) -> None:
        """Learn from all measurements so far.

        Args:
            points: Where they were made.
            utility: What they came to, a row per point and a column for each utility.
            column: Which of them decides the settings.
        """
        self._points = points
        self._utility = utility
        self._column = column
        self._own = self._correlations(points, points)
        best = float(self._losses([self.fit_now])[0])
        for candidates in self._coordinates_to_fit(len(utility)):
            losses = self._losses(candidates)
            place = int(losses.argmin())
            if losses[place] < best:
                best, self.fit_now = float(losses[place]), candidates[place]
        self._factorise()

    def imagine(self, points: Points) -> None:
        """Take what is believed of some points for measured: what is running elsewhere need not be proposed again nearby."""
        mean, _ = self.predict(points)
        self._points = self._points.and_also(points)
        self._utility = np.concatenate([self._utility, mean])
        self._own = self._correlations(self._points, self._points)
        self._factorise([solved.center for solved in self._solved])

    def predict(self, points: Points) -> tuple[Array, Array]:
        """Mean (a column for each utility) and standard deviation of the utility without noise at some points."""
        return self._predict(self._solved[0], points, self._correlations(points, self._points))

    def predict_both(self, points: Points) -> list[tuple[Array, Array]]:
        """The same by the fitted settings and by the usual ones: from a few results the fitted ones are too sure of themselves."""
        correlations = self._correlations(points, self._points)
        return [self._predict(solved, points, correlations) for solved in self._solved]

    def _predict(self, solved: _Solved, points: Points, correlations: Correlations) -> tuple[Array, Array]:
        cross = self._covariances(correlations, [solved.fit])[0]
        cross += _same_session(points.session, self._points.session)
        mean = solved.center + solved.fit.trust * points.prior + cross @ solved.weights
        spread = cross @ solved.inverse.T
        variance = self._own_variance(solved.fit) - np.einsum("ij,ij->i", spread, spread)
        return mean, np.sqrt(np.maximum(variance, 1e-10))

    def _usual_fit(self, trust: float) -> Fit:
        usual = usual_for(trust)
        return Fit(usual.coarse, usual.single, usual.joint, usual.noise, trust, (0.6,) * self._axes)

    def _coordinates_to_fit(self, count: int) -> Iterator[list[Fit]]:
        """Alternatives along one coordinate after the other; each is made from the best fit so far."""
        changes: list[tuple[str, tuple[float, ...], int]] = [
            ("coarse", COARSE, -1),
            ("single", SINGLE, -1),
            ("joint", JOINT, -1),
            ("noise", NOISE, -1),
        ]
        if self._has_prior:
            changes.insert(0, ("trust", TRUST, -1))
        changes += [("scales", SCALES, axis) for axis in range(len(self.fit_now.scales))]
        if count > _REFIT_ALL:
            self._turn += 1
            parts = 2 + count // 20
            changes = [change for place, change in enumerate(changes) if place % parts == self._turn % parts]
        for name, grid, axis in changes:
            yield [self._changed(name, value, axis) for value in grid]

    def _changed(self, name: str, value: float, axis: int) -> Fit:
        fit = self.fit_now
        if name == "scales":
            return replace(fit, scales=(*fit.scales[:axis], value, *fit.scales[axis + 1 :]))
        if name == "coarse":
            return replace(fit, coarse=value)
        if name == "single":
            return replace(fit, single=value)
        if name == "joint":
            return replace(fit, joint=value)
        if name == "noise":
            return replace(fit, noise=value)
        return replace(fit, trust=value)

    def _losses(self, fits: Sequence[Fit]) -> Array:
        """Negative log-likelihood and penalty of some settings, all at once: for few points the calls cost more than the sums."""
        count = len(self._points.prior)
        trust = np.array([fit.trust for fit in fits])
        residual = self._utility[:, self._column] - trust[:, None] * self._points.prior[:, self._column]
        residual -= _middle(residual.T)[:, None]
        noise = np.array([fit.noise for fit in fits])
        matrices = np.empty((len(fits), count + 1, count + 1))
        matrices[:, :count, :count] = self._own_covariances(fits)
        # With the residual as one more row its factor holds the residual solved for; the corner only has to be large enough.
        matrices[:, count, :count] = matrices[:, :count, count] = residual
        matrices[:, count, count] = (residual * residual).sum(axis=1) / noise**2 + 1.0
        lower = np.linalg.cholesky(matrices)
        solved = lower[:, count, :count]
        diagonals = np.diagonal(lower, axis1=1, axis2=2)[:, :count]
        losses: Array = 0.5 * (solved * solved).sum(axis=1) + np.log(diagonals).sum(axis=1)
        losses += [self._penalty(fit) for fit in fits]
        return losses

    def _own_covariances(self, fits: Sequence[Fit]) -> Array:
        """Covariance of the measurements, with their noise, for some settings."""
        matrices = self._covariances(self._own, fits)
        session = self._points.session
        if session.any():
            matrices += _same_session(session, session)
        count = matrices.shape[1]
        diagonals = matrices.reshape(len(fits), -1)[:, :: count + 1]
        noise = np.array([fit.noise for fit in fits])[:, None] ** 2
        diagonals += noise + np.where(session > 0, _OLDER_NOISE**2, 0.0) + _JITTER
        return matrices

    def _penalty(self, fit: Fit) -> float:
        usual = usual_for(fit.trust)
        steps = (
            math.log(fit.coarse / usual.coarse),
            math.log(fit.single / usual.single),
            math.log(fit.joint / usual.joint),
            1.5 * math.log(fit.noise / usual.noise),
        )
        scales = sum(math.log(scale / 0.6) ** 2 for scale in fit.scales) * 0.4
        doubt = 1.5 * (1 - fit.trust) if self._has_prior else 0.0
        return 0.5 * (sum(step * step for step in steps) + scales) + doubt

    def _factorise(self, centers: Sequence[Array] | None = None) -> None:
        """Solve for the fitted settings and for the usual ones."""
        fits = [self.fit_now, self._usual_fit(self.fit_now.trust)]
        inverses = np.linalg.inv(np.linalg.cholesky(self._own_covariances(fits)))
        self._solved = []
        for place, (fit, inverse) in enumerate(zip(fits, inverses, strict=True)):
            residual = self._utility - fit.trust * self._points.prior
            center = _middle(residual) if centers is None else centers[place]
            self._solved.append(_Solved(fit, center, inverse, inverse.T @ (inverse @ (residual - center))))

    def _correlations(self, one: Points, other: Points) -> Correlations:
        return Correlations(one.coordinates, other.coordinates, self._coarse, self._fine)

    def _covariances(self, correlations: Correlations, fits: Sequence[Fit]) -> Array:
        """Covariance of the utilities at two sets of points, for some settings."""
        scales = list(dict.fromkeys(fit.scales for fit in fits))
        parts = correlations.parts(scales)
        amplitudes = np.array([(fit.coarse, fit.joint, fit.single) for fit in fits]) ** 2
        rows, columns = correlations.shape
        if len(scales) == 1:
            flat = amplitudes @ parts[0].reshape(3, -1)
            return np.asarray(flat.reshape(len(fits), rows, columns)) + _SHIFT**2
        places = [scales.index(fit.scales) for fit in fits]
        summed: Array = (amplitudes[:, :, None, None] * parts[places]).sum(axis=1) + _SHIFT**2
        return summed

    def _own_variance(self, fit: Fit) -> float:
        """Variance of the utility anywhere before anything was measured."""
        coarse = fit.coarse**2 if self._coarse else 0.0
        fine = fit.joint**2 + fit.single**2 if self._fine else 0.0
        return _SHIFT**2 + coarse + fine


def _middle(values: Array) -> Array:
    """Median of each column."""
    ordered = np.sort(values, axis=0)
    middle: Array = 0.5 * (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2])
    return middle


def expected_improvement(mean: Array, deviation: Array, best: Array | float) -> Array:
    """Expected gain over the best utility so far (Jones 1998)."""
    steps = (mean - best) / deviation
    density = np.exp(-0.5 * steps * steps) / math.sqrt(2 * math.pi)
    gain: Array = deviation * (steps * _normal_cdf(steps) + density)
    return np.maximum(gain, 1e-300)


def _same_session(one: NDArray[np.int64], other: NDArray[np.int64]) -> Array:
    """Covariance by what an older session has in common: all that it measured is off by one factor."""
    same: Array = (one[:, None] == other[None, :]) & (one[:, None] > 0)
    return same * _OLDER_OFFSET**2


def _normal_cdf(steps: Array) -> Array:
    """Distribution function of the normal distribution (Abramowitz and Stegun 26.2.17; error below 1e-7)."""
    t = 1 / (1 + 0.2316419 * np.abs(steps))
    terms = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = np.exp(-0.5 * steps * steps) / math.sqrt(2 * math.pi) * terms
    return np.where(steps >= 0, 1 - tail, tail)
