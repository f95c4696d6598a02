"""What configurations mean, in columns: one array per meaning, a row per configuration.

The prior and the feasibility checks read these and know no server's spelling.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from engines.models import ModelShapeError, Precision, load_checkpoint, precision_from_name
from tuner.search.problem import Meaning, meaning_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engines.knob import Value
    from engines.models import Checkpoint
    from tuner.search.encoding import Grid

Column = "NDArray[np.float64]"

PRECISIONS = tuple(Precision)
"""A precision in a column is its place here."""

_KV_NAMES = {"fp8": Precision.FP8, "fp8_e4m3": Precision.FP8, "fp8_e5m2": Precision.FP8, "nvfp4": Precision.NVFP4}
_EVICTING = "MAX_UTILIZATION"


@dataclass(frozen=True, slots=True)
class Settings:
    """Columns by meaning; NaN where the server decides by itself.

    Attributes:
        columns: The arrays.
        rows: How many configurations.
        names: The knob behind each meaning, for the words of a rejection.
    """

    columns: Mapping[Meaning, NDArray[np.float64]]
    rows: int
    names: Mapping[Meaning, str] = field(default_factory=dict)

    def get(self, meaning: Meaning, default: float) -> NDArray[np.float64]:
        """A column, with the default where a configuration does not say."""
        column = self.columns.get(meaning)
        if column is None:
            return np.full(self.rows, default)
        return np.where(np.isnan(column), default, column)

    def has(self, meaning: Meaning) -> bool:
        """Whether any knob has that meaning."""
        return meaning in self.columns


@cache
def _named(name: str) -> Precision:
    """Precision of a checkpoint: from its folder where it has one here, else as its name says."""
    try:
        return load_checkpoint(name).weight_precision
    except ModelShapeError:
        return precision_from_name(name)


class SettingsReader:
    """Reads configurations of one engine as settings."""

    def __init__(
        self,
        defaults: Mapping[str, Value],
        checkpoint: Checkpoint | None,
        own: Mapping[str, Meaning] | None = None,
    ) -> None:
        """Note what every knob means.

        Args:
            defaults: Value of every knob of the engine where a configuration does not name it.
            checkpoint: The model as it is served when no knob chooses a variant.
            own: Meanings of knobs that the caller knows.
        """
        self._defaults = defaults
        self._checkpoint = checkpoint
        self._meanings = {name: meaning for name in defaults if (meaning := meaning_of(name, own)) is not None}

    @property
    def names(self) -> dict[Meaning, str]:
        """The knob behind each meaning."""
        return {meaning: name for name, meaning in self._meanings.items()}

    def of_grid(self, grid: Grid, codes: NDArray[np.int64]) -> Settings:
        """Settings of rows of codes."""
        columns = self._constant(len(codes))
        for place, axis in enumerate(grid.axes):
            meaning = self._meanings.get(axis.name)
            if meaning is not None:
                numbers = np.array([self.number(meaning, value) for value in axis.values])
                columns[meaning] = numbers[codes[:, place]]
        return Settings(columns, len(codes), self.names)

    def of_params(self, rows: Sequence[Mapping[str, Value]]) -> Settings:
        """Settings of whole configurations."""
        columns = self._constant(len(rows))
        for name, meaning in self._meanings.items():
            columns[meaning] = np.array([self.number(meaning, row.get(name, self._defaults[name])) for row in rows])
        return Settings(columns, len(rows), self.names)

    def number(self, meaning: Meaning, value: Value) -> float:
        """A knob's value as a number: precisions by their place, switches as 0 and 1, NaN for what the server decides."""
        if meaning is Meaning.WEIGHT_PRECISION:
            return float(PRECISIONS.index(self._weights(value)))
        if meaning is Meaning.KV_PRECISION:
            return float(PRECISIONS.index(self._kv(value)))
        if meaning is Meaning.POLICY:
            return float(value == _EVICTING)
        if value is None or isinstance(value, str):
            return np.nan
        return float(value)

    def _weights(self, value: Value) -> Precision:
        stated = _named(str(value)) if value is not None else Precision.BF16
        if stated is Precision.BF16 and self._checkpoint is not None and value in (None, "auto", "none", ""):
            return self._checkpoint.weight_precision
        return stated

    def _kv(self, value: Value) -> Precision:
        served = self._checkpoint.kv_precision if self._checkpoint is not None else Precision.BF16
        return _KV_NAMES.get(str(value).lower(), served)

    def _constant(self, rows: int) -> dict[Meaning, NDArray[np.float64]]:
        """Columns of what every configuration has in common: the checkpoint's precisions and the knobs' defaults."""
        numbers = {meaning: self.number(meaning, self._defaults[name]) for name, meaning in self._meanings.items()}
        if self._checkpoint is not None:
            numbers.setdefault(Meaning.WEIGHT_PRECISION, float(PRECISIONS.index(self._checkpoint.weight_precision)))
            numbers.setdefault(Meaning.KV_PRECISION, float(PRECISIONS.index(self._checkpoint.kv_precision)))
        return {meaning: np.full(rows, number) for meaning, number in numbers.items()}
