"""The values of a trial, written into Optuna's tables at once: its own storage takes a transaction for each of them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import sqlalchemy
from optuna.distributions import distribution_to_json
from sqlalchemy.exc import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.distributions import BaseDistribution
    from optuna.storages import RDBStorage

    Values = Mapping[str, tuple[float, BaseDistribution]]

_COLUMNS: Final = frozenset({"param_id", "trial_id", "param_name", "param_value", "distribution_json"})
"""Of Optuna's table of values. One that has others is left to Optuna."""

_TABLE: Final = sqlalchemy.table("trial_params", *(sqlalchemy.column(name) for name in sorted(_COLUMNS - {"param_id"})))


class ValueWriter:
    """Writes values of trials into a database of Optuna's."""

    def __init__(self, storage: RDBStorage) -> None:
        """Take a storage; nothing is read from it yet."""
        self._storage = storage
        self._known_table: bool | None = None

    def write(self, trial_id: int, values: Values) -> None:
        """Write values of a running trial, all or nothing; those that are there already stay.

        Args:
            trial_id: Identity of the trial.
            values: By name, as Optuna's internal numbers.
        """
        if self._known_table is None:
            columns = sqlalchemy.inspect(self._storage.engine).get_columns(_TABLE.name)
            self._known_table = {column["name"] for column in columns} == _COLUMNS
        if not self._known_table:
            for name, (value, distribution) in values.items():
                self._storage.set_trial_param(trial_id, name, value, distribution)
            return
        rows = [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": value,
                "distribution_json": distribution_to_json(distribution),
            }
            for name, (value, distribution) in values.items()
        ]
        # A lost connection does not tell whether they were written: then they are there when it is tried again.
        with suppress(IntegrityError), self._storage.engine.begin() as connection:
            connection.execute(_TABLE.insert(), rows)
