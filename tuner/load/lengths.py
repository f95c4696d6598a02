"""Length distributions: how many tokens a prompt or an answer has.

In a plan file a length is a number (`osl = 128`) or a table (`osl = { distribution = "lognormal", mean = 200, std = 120 }`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, model_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MAX_TOKENS = 10_000_000
"""Longest prompt or answer accepted; a typing error must not ask for terabytes."""

Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class _Distribution(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def sample(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw `count` lengths in tokens; the same generator state gives the same lengths."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator) -> int:
        """Draw one length in tokens."""
        return int(self.sample(rng, 1)[0])

    def mean_tokens(self) -> float:
        """Expected length in tokens, before clipping and rounding."""
        raise NotImplementedError


class Fixed(_Distribution):
    """Every length is the same."""

    distribution: Literal["fixed"] = "fixed"
    tokens: Tokens

    def sample(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """`count` times the fixed length."""
        return np.full(count, self.tokens, dtype=np.int64)

    def draw(self, rng: np.random.Generator) -> int:
        """The fixed length; nothing is drawn."""
        return self.tokens

    def mean_tokens(self) -> float:
        """The fixed length."""
        return float(self.tokens)


class Uniform(_Distribution):
    """Every whole number from `min` to `max`, both included, is equally likely."""

    distribution: Literal["uniform"] = "uniform"
    min: Tokens
    max: Tokens

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self

    def sample(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw `count` lengths in tokens."""
        return rng.integers(self.min, self.max, size=count, endpoint=True)

    def mean_tokens(self) -> float:
        """Middle of the range."""
        return (self.min + self.max) / 2


class Normal(_Distribution):
    """Normal distribution, rounded and clipped to `min`..`max`."""

    distribution: Literal["normal"] = "normal"
    mean: PositiveFloat
    std: float = Field(ge=0)
    min: Tokens = 1
    max: Tokens = MAX_TOKENS

    def sample(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw `count` lengths in tokens."""
        return _whole(rng.normal(self.mean, self.std, count), self.min, self.max)

    def mean_tokens(self) -> float:
        """Mean before clipping."""
        return self.mean


class LogNormal(_Distribution):
    """Log-normal distribution given by the mean and standard deviation of the lengths themselves (not of their logarithm)."""

    distribution: Literal["lognormal"] = "lognormal"
    mean: PositiveFloat
    std: PositiveFloat
    min: Tokens = 1
    max: Tokens = MAX_TOKENS

    def sample(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw `count` lengths in tokens."""
        variance = np.log1p((self.std / self.mean) ** 2)
        drawn = rng.lognormal(np.log(self.mean) - variance / 2, np.sqrt(variance), count)
        return _whole(drawn, self.min, self.max)

    def mean_tokens(self) -> float:
        """Mean before clipping."""
        return self.mean


class Empirical(_Distribution):
    """Lengths seen somewhere, drawn with replacement, optionally weighted."""

    distribution: Literal["empirical"] = "empirical"
    values: tuple[Tokens, ...] = Field(min_length=1)
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None

    @model_validator(mode="after")
    def _matching(self) -> Empirical:
        if self.weights is not None and (len(self.weights) != len(self.values) or sum(self.weights) <= 0):
            raise ValueError("weights must be as many as values, and not all zero")
        return self

    def sample(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw `count` lengths in tokens."""
        return rng.choice(np.array(self.values, dtype=np.int64), size=count, p=self._shares())

    def mean_tokens(self) -> float:
        """Weighted mean of the values."""
        return float(np.average(self.values, weights=self.weights))

    def _shares(self) -> NDArray[np.float64] | None:
        if self.weights is None:
            return None
        weights = np.array(self.weights, dtype=np.float64)
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares


def _from_number(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"distribution": "fixed", "tokens": value}
    if isinstance(value, list):
        return {"distribution": "empirical", "values": value}
    return value


DISTRIBUTIONS: Mapping[str, type[BaseModel]] = {
    model.model_fields["distribution"].default: model for model in (Fixed, Uniform, Normal, LogNormal, Empirical)
}
"""Every distribution of lengths by its name."""

Length = Annotated[
    Annotated[Fixed | Uniform | Normal | LogNormal | Empirical, Field(discriminator="distribution")],
    BeforeValidator(_from_number),
]
"""A length in tokens as a plan states it: a number, a list of numbers, or a table with `distribution`."""


def _whole(drawn: NDArray[np.float64], low: int, high: int) -> NDArray[np.int64]:
    return np.clip(np.rint(drawn), low, high).astype(np.int64)
