"""A session for scripts and notebooks: typed records, and pandas DataFrames made when they are asked for.

    with trtune.open_session("run.trtune") as session:
        session.trials().sort_values("score")

Nothing is read before it is asked for, and frames are not kept: keep what you need. docs/python.md has an example.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sessions.clock import NS_PER_S
from sessions.errors import SessionError
from sessions.packing import Readable
from sessions.reader import SessionReader
from sessions.summary import summarise_session

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

    from sessions.records import LevelRecord, Trial
    from sessions.requests import RequestTable
    from sessions.summary import Summary


def open_session(path: str | os.PathLike[str]) -> Session:
    """Open a session, or a pack of one, for reading. Close it, or use it in a `with`.

    Args:
        path: A `.trtune` file, growing or finished, or a `.trtune.xz` pack.

    Raises:
        NotASession: If it is missing or something else.
        NewerSession: If a newer trtune wrote it.
    """
    return Session(Path(path).expanduser())


class Session:
    """One session. Times in frames are seconds since its beginning (`*_s`) or ns (`*_ns`); `start_utc` tells when that was.

    Attributes:
        path: The file or pack.
        reader: The reader below, for whoever wants records rather than frames.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._readable = Readable(path)
        try:
            self.reader = SessionReader(self._readable.path)
        except BaseException:
            self._readable.close()
            raise

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<trtune session {self.path.name}>"

    def close(self) -> None:
        """Let go of the file."""
        self.reader.close()
        self._readable.close()

    @property
    def meta(self) -> Mapping[str, Any]:
        """Facts by key: plan, versions, host, engine, objective, knobs, workload, verdict, importance."""
        return self.reader.meta()

    @property
    def start_utc(self) -> pd.Timestamp:
        """When session time 0 was."""
        import pandas as pd

        return pd.Timestamp(self.reader.origin_utc_ns(), unit="ns", tz="UTC")

    @property
    def summary(self) -> Summary:
        """Baseline, best (the proof's winner, when there was a proof) and gain."""
        return summarise_session(self.reader.trials(), self.meta)

    @property
    def best(self) -> Trial | None:
        """The winner of the proof, else the best trial that meets every SLO; None without one."""
        return self.summary.best

    @property
    def baseline(self) -> Trial | None:
        """The baseline, or None."""
        return self.summary.baseline

    def trial(self, number: int) -> Trial:
        """One trial.

        Raises:
            SessionError: If there is none of that number.
        """
        for trial in self.reader.trials():
            if trial.number == number:
                return trial
        raise SessionError(f"{self.path}: there is no trial {number}")

    def trials(self) -> pd.DataFrame:
        """A row per trial, by `number`: state, score, `params.*`, `effective.*`, and metrics as `metric.stat`."""
        rows = (_trial_row(trial) for trial in self.reader.trials())
        return _frame(rows, _TRIAL_COLUMNS).set_index("number", drop=False)

    def levels(self, trial: int | None = None) -> pd.DataFrame:
        """A row per level, of one trial or of all, by `level`: load, state, window, and metrics as `metric.stat`."""
        rows = (_level_row(level) for level in self.reader.levels(trial))
        return _frame(rows, _LEVEL_COLUMNS).set_index("level", drop=False)

    def phases(self, trial: int | None = None) -> pd.DataFrame:
        """A row per phase: what a trial was doing from when to when."""
        rows = (
            {
                "trial": phase.trial,
                "level": phase.level,
                "phase": phase.name,
                "start_s": phase.start_ns / NS_PER_S,
                "end_s": _seconds(phase.end_ns),
            }
            for phase in self.reader.phases(trial)
        )
        return _frame(rows, ("trial", "level", "phase", "start_s", "end_s"))

    def requests(self, *, trial: int | None = None, level: int | None = None, arrivals: bool = False) -> pd.DataFrame:
        """A row per request: times, lengths, status, TTFT and E2E latency.

        Args:
            trial: Only those of a trial.
            level: Only those of a level (its id).
            arrivals: Whether TPOT and ITL are wanted too; the arrival of every token is read for them, which takes longer.
        """
        from trtune.frames import requests_frame

        return requests_frame(self._tables(trial, level, arrivals=arrivals), arrivals=arrivals)

    def tokens(self, *, trial: int | None = None, level: int | None = None) -> pd.DataFrame:
        """A row per chunk of tokens: which request, when it arrived, how many tokens, the gap before it.

        There are about as many as output tokens: name a trial or a level.

        Args:
            trial: Only those of a trial.
            level: Only those of a level (its id).
        """
        from trtune.frames import tokens_frame

        return tokens_frame(self._tables(trial, level, arrivals=True))

    def gpu(self, start_s: float = 0.0, end_s: float | None = None) -> pd.DataFrame:
        """A row per GPU and sample; the columns are those of `sessions.columns`, units in their names."""
        return self._samples("gpu", start_s, end_s)

    def engine(self, start_s: float = 0.0, end_s: float | None = None) -> pd.DataFrame:
        """A row per sample of the server's own metrics."""
        return self._samples("engine", start_s, end_s)

    def load(self, start_s: float = 0.0, end_s: float | None = None) -> pd.DataFrame:
        """A row per sample of the load: throughput and running percentiles as the screen showed them."""
        return self._samples("load", start_s, end_s)

    def events(self) -> pd.DataFrame:
        """A row per mark: a new best, an operator's command or note, warnings."""
        rows = (
            {
                "t_s": event.t_ns / NS_PER_S,
                "kind": event.kind,
                "trial": event.trial,
                "text": event.text,
                "data": dict(event.data),
            }
            for event in self.reader.events()
        )
        return _frame(rows, ("t_s", "kind", "trial", "text", "data"))

    def log(self, limit: int = 1_000_000) -> pd.DataFrame:
        """A row per log line, the newest `limit`."""
        rows = (
            {"t_s": line.t_ns / NS_PER_S, "stream": line.stream, "level": line.level, "text": line.text}
            for line in self.reader.logs(limit=limit)
        )
        return _frame(rows, ("t_s", "stream", "level", "text"))

    def _tables(
        self, trial: int | None, level: int | None, *, arrivals: bool
    ) -> Iterator[tuple[LevelRecord, RequestTable]]:
        for record in self.reader.levels(trial):
            if level is None or record.id == level:
                yield record, self.reader.requests(record.id, arrivals=arrivals)

    def _samples(self, kind: str, start_s: float, end_s: float | None) -> pd.DataFrame:
        from trtune.frames import samples_frame

        start_ns = round(start_s * NS_PER_S)
        end_ns = self.reader.end_ns() + 1 if end_s is None else round(end_s * NS_PER_S)
        parts = (
            (source, self.reader.packed_samples(source.id, start_ns, end_ns)) for source in self.reader.sources(kind)
        )
        return samples_frame(kind, parts)


_TRIAL_COLUMNS = ("number", "kind", "state", "score", "feasible", "start_s", "end_s", "ready_s", "failure")
_LEVEL_COLUMNS = (
    "level", "trial", "kind", "value", "state", "start_s", "end_s", "window_start_s", "window_end_s", "notes",
)  # fmt: skip


def _trial_row(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "kind": trial.kind,
        "state": trial.state,
        "score": trial.score,
        "feasible": trial.feasible,
        "start_s": trial.start_ns / NS_PER_S,
        "end_s": _seconds(trial.end_ns),
        "ready_s": trial.ready_s,
        "failure": trial.failure.text if trial.failure else "",
        **{f"params.{name}": value for name, value in trial.params.items()},
        **{f"effective.{name}": value for name, value in trial.effective.items()},
        **_metrics(trial.result),
    }


def _level_row(level: LevelRecord) -> dict[str, Any]:
    opened_ns, closed_ns = level.window_ns or (None, None)
    return {
        "level": level.id,
        "trial": level.trial,
        "kind": level.kind,
        "value": level.value,
        "state": level.state,
        "start_s": level.start_ns / NS_PER_S,
        "end_s": _seconds(level.end_ns),
        "window_start_s": _seconds(opened_ns),
        "window_end_s": _seconds(closed_ns),
        "notes": "; ".join(level.notes),
        **_metrics(level.result),
    }


def _metrics(result: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{metric}.{stat}": value for metric, stats in result.items() for stat, value in stats.items()}


def _seconds(t_ns: int | None) -> float | None:
    return None if t_ns is None else t_ns / NS_PER_S


def _frame(rows: Iterator[dict[str, Any]], least: Sequence[str]) -> pd.DataFrame:
    """The rows as a table, which has its `least` columns without a row too."""
    import pandas as pd

    told = list(rows)
    return pd.DataFrame(told) if told else pd.DataFrame(columns=list(least))
