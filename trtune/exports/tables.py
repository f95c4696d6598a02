"""The tables of a session as CSV, JSON lines or Parquet files, the same that `trtune.open_session` gives as DataFrames."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING

from trtune.errors import UsageError
from trtune.session import Session, open_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

TABLE_FORMATS = ("csv", "parquet", "json")
ALL = "all"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

TABLES: dict[str, Callable[[Session, int | None], pd.DataFrame]] = {
    "trials": lambda session, trial: _of_trial(session.trials(), trial),
    "levels": lambda session, trial: session.levels(trial),
    "phases": lambda session, trial: session.phases(trial),
    "requests": lambda session, trial: session.requests(trial=trial, arrivals=True),
    "tokens": lambda session, trial: session.tokens(trial=trial),
    "gpu": lambda session, _: session.gpu(),
    "engine": lambda session, _: session.engine(),
    "load": lambda session, _: session.load(),
    "events": lambda session, _: session.events(),
    "log": lambda session, _: session.log(),
}
"""Tables by name; what makes each takes the trial to narrow it to."""

OF_TRIALS = ("trials", "levels", "phases", "requests", "tokens")
"""Tables that can be narrowed to one trial; the others are of the whole session."""


def export_tables(path: Path, table: str, format_: str, *, trial: int | None, output: Path | None) -> None:
    """Write a table, or every table into a folder.

    Args:
        path: The session or a pack of one.
        table: A name in `TABLES`, or `all`.
        format_: One of `TABLE_FORMATS`; `json` is one object a line.
        trial: Only this trial's rows, in the tables that are of trials.
        output: A new file (a new folder for `all`); None: standard output.

    Raises:
        UsageError: If that cannot be: `all` without a folder, Parquet to a terminal, a path that is taken, no pyarrow,
            one trial of a table that is not of trials.
        SessionError: If there is no such trial.
    """
    if format_ == "parquet":
        _require_pyarrow()
    if trial is not None and table not in (*OF_TRIALS, ALL):
        raise UsageError(
            f"--trial {trial}: {table} is of the whole session; of one trial there are {', '.join(OF_TRIALS)}"
        )
    with closing(open_session(path)) as session:
        if trial is not None:
            session.trial(trial)
        if table != ALL:
            _write(TABLES[table](session, trial), format_, output)
            return
        if output is None:
            raise UsageError("--table all: name a new folder with --output")
        try:
            output.mkdir(parents=True)
        except FileExistsError as error:
            raise UsageError(f"--output {output}: exists already; choose another name") from error
        for name, make in TABLES.items():
            _write(make(session, trial), format_, output / f"{name}.{format_}")


def _of_trial(trials: pd.DataFrame, number: int | None) -> pd.DataFrame:
    return trials if number is None else trials[trials["number"] == number]


def _write(frame: pd.DataFrame, format_: str, output: Path | None) -> None:
    if output is None:
        if format_ == "parquet":
            if sys.stdout.isatty():
                raise UsageError("--format parquet is not text: name a file with --output")
            _plain(frame).to_parquet(sys.stdout.buffer, index=False)
        else:
            sys.stdout.write(_text(frame, format_))
        return
    try:
        file = output.open("xb")
    except FileExistsError as error:
        raise UsageError(f"--output {output}: exists already; choose another name") from error
    with file:
        if format_ == "parquet":
            _plain(frame).to_parquet(file, index=False)
        else:
            file.write(_text(frame, format_).encode())


def _text(frame: pd.DataFrame, format_: str) -> str:
    if format_ == "csv":
        return str(_harmless(frame).to_csv(index=False))
    return str(frame.to_json(orient="records", lines=True, double_precision=12))


def _harmless(frame: pd.DataFrame) -> pd.DataFrame:
    """Texts that a spreadsheet would take for a formula (a server may log anything) with an apostrophe before them."""
    texts = [
        name for name in frame.columns if frame[name].dtype == object or str(frame[name].dtype) in ("str", "string")
    ]
    return frame.assign(**{name: frame[name].map(_not_a_formula) for name in texts})


def _not_a_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of mixed kinds and objects as text: Parquet wants one kind a column."""
    import orjson

    changed = {
        name: frame[name].map(
            lambda value: value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
        )
        for name in frame.columns
        if frame[name].dtype == object and not frame[name].map(lambda value: isinstance(value, str)).all()
    }
    return frame.assign(**changed)


def _require_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError("--format parquet needs pyarrow: pip install 'trtune[parquet]'") from error
