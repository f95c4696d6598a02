"""Follows a session without a screen: a line for everything that happens, and the outcome at the end."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import orjson

from sessions.commands import send_command
from sessions.faults import fault_path, read_fault
from sessions.holding import is_written
from sessions.reader import SessionReader
from sessions.summary import summarise_session
from sessions.text import clean_lines
from trtune.errors import DONE, FAILED, NOTHING_FEASIBLE, STOPPED, UNREACHABLE
from trtune.insights import insight_facts, insight_lines
from trtune.paths import path_text
from trtune.start import worker_is_gone

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sessions.records import LevelRecord, Trial
    from sessions.summary import Summary

PERIOD_S = 0.25
GONE_AFTER_S = 2.0
PROGRESS_S = 5.0

_PROGRESS = ("done_total", "failed_total", "in_flight", "output_tps", "ttft_p50_ms")
_PROGRESS_LINE = (
    "        {done_total} done, {failed_total} failed, {in_flight} in flight, {output_tps} tok/s,"
    " TTFT p50 {ttft_p50_ms} ms"
)

_TOLD_EVENTS = ("best", "verdict", "command", "mark", "warning", "drift")


@dataclass(slots=True)
class _Wish:
    """What the user has asked for by signals."""

    stops: int = 0


class Follower:
    """Prints what happens in a session until its worker is over.

    Attributes:
        json: One JSON object a line instead of text.
    """

    def __init__(self, path: Path, *, json: bool, out: TextIO | None = None) -> None:
        self.json = json
        self._path = path
        self._out = out or sys.stdout
        self._trials: dict[int, str] = {}
        self._levels: set[int] = set()
        self._events = 0
        self._progress_s = time.monotonic()

    def run(self) -> int:
        """Follow to the end; returns the exit status.

        The first Ctrl-C (or SIGTERM) asks the worker to stop, the second leaves it alone.
        """
        wish = _Wish()
        with _signals(wish), SessionReader(self._path) as reader:
            self._say(
                {"event": "session", "path": path_text(self._path), **_head(reader.meta())}, _head_line(reader.meta())
            )
            stopped = False
            while True:
                if wish.stops and not stopped:
                    stopped = True
                    send_command(self._path, "stop")
                    self._say({"event": "stopping"}, "stopping; press Ctrl-C again to leave at once")
                if wish.stops > 1:
                    return STOPPED
                if reader.changed():
                    self._report(reader)
                    self._progress(reader)
                status = reader.worker()
                if status is not None and (status.over or self._gone(reader)):
                    self._report(reader)
                    return self.conclude(reader, stopped=stopped)
                time.sleep(PERIOD_S)

    def conclude(self, reader: SessionReader, *, stopped: bool = False) -> int:
        """Print the outcome; returns the exit status."""
        meta, trials, status = reader.meta(), reader.trials(), reader.worker()
        summary = summarise_session(trials, meta)
        outcome = _outcome(meta, summary, reader, self._path)
        lines = _outcome_lines(meta, summary, reader, self._path)
        self._say({"event": "result", **outcome}, "\n".join(lines))
        if status is not None and not status.over and is_written(self._path):
            text = f"it is being worked on; look at it live with: trtune attach {self._path}"
            self._say({"event": "live", "text": text}, text)
            return STOPPED if stopped else DONE
        if status is None or not status.over:
            fault = read_fault(self._path)
            why = f", ended by a fault in a library (see {fault_path(self._path)})" if fault else ""
            text = f"the worker is gone{why}; go on with: trtune tune --resume {self._path}"
            self._say({"event": "error", "text": text}, text)
            return FAILED
        if status.state == "failed":
            self._say({"event": "error", "text": status.text}, f"trtune: {status.text}")
            return UNREACHABLE if meta.get("exit") == "unreachable" else FAILED
        if stopped or status.text.startswith("stopped"):
            return STOPPED
        if meta.get("kind") in ("tune", "bench") and summary.best is None:
            return NOTHING_FEASIBLE
        return DONE

    def _gone(self, reader: SessionReader) -> bool:
        status = reader.worker()
        assert status is not None
        silent_s = (time.time_ns() - status.heartbeat_utc_ns) / 1e9
        return silent_s > GONE_AFTER_S and worker_is_gone(reader)

    def _report(self, reader: SessionReader) -> None:
        """Print what is new, in the order in which it happened."""
        meta = reader.meta()
        news: list[tuple[int, dict[str, Any], str]] = []
        for level in reader.levels():
            if level.end_ns is not None and level.id not in self._levels:
                self._levels.add(level.id)
                news.append((level.end_ns, {"event": "level", **_level_facts(level)}, _level_line(level)))
        for trial in reader.trials():
            told = self._trials.get(trial.number)
            if told is None and trial.end_ns is not None:
                news.append((trial.start_ns, _began(trial), _began_line(trial)))
            if told != trial.state:
                self._trials[trial.number] = trial.state
                when_ns = trial.start_ns if trial.end_ns is None else trial.end_ns
                facts = _began(trial) if trial.end_ns is None else {"event": "trial", **trial_facts(trial)}
                news.append((when_ns, facts, _trial_line(trial, meta)))
        for event in reader.events():
            if event.id > self._events:
                self._events = event.id
                if event.kind in _TOLD_EVENTS:
                    facts = {"event": event.kind, "trial": event.trial, "text": event.text}
                    news.append((event.t_ns, facts, f"  * {event.text}"))
        for _, facts, line in sorted(news, key=lambda each: each[0]):
            self._say(facts, line)

    def _progress(self, reader: SessionReader) -> None:
        """Say every few seconds how the running level goes."""
        level = next((level for level in reader.levels() if level.state == "running"), None)
        if level is None or time.monotonic() - self._progress_s < PROGRESS_S:
            return
        for source in reader.sources("load"):
            sample = reader.last_sample(source.id)
            if sample is None or sample.t_ns < level.start_ns:
                continue
            self._progress_s = time.monotonic()
            known = dict(zip(source.columns, sample.values, strict=True))
            facts = {"event": "progress", "trial": level.trial, "kind": level.kind, "value": level.value, **known}
            numbers = {name: f"{known.get(name, math.nan):.4g}".replace("nan", "-") for name in _PROGRESS}
            self._say(facts, _PROGRESS_LINE.format(**numbers))

    def _say(self, facts: Mapping[str, Any], line: str) -> None:
        text = orjson.dumps(_without_nan(facts)).decode() if self.json else clean_lines(line)
        print(text, file=self._out, flush=True)


def trial_facts(trial: Trial) -> dict[str, Any]:
    """A trial as JSON output has it."""
    failure = trial.failure
    return {
        "number": trial.number,
        "kind": trial.kind,
        "state": trial.state,
        "params": trial.params,
        "effective": trial.effective,
        "ready_s": trial.ready_s,
        "score": trial.score,
        "feasible": trial.feasible,
        "result": trial.result,
        "failure": None if failure is None else {"kind": failure.kind, "text": failure.text, "line": failure.line},
    }


def params_text(params: Mapping[str, Any]) -> str:
    """A configuration on one line."""
    return " ".join(f"{name}={_plain(value)}" for name, value in params.items()) or "as it is"


def gain_text(gain: float | None) -> str:
    """A gain as signed per cent."""
    return "unknown" if gain is None or math.isnan(gain) else f"{gain:+.1%}"


def _plain(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _head(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {name: meta.get(name) for name in ("kind", "name", "engine", "objective", "workload", "budget")}


def _head_line(meta: Mapping[str, Any]) -> str:
    engine = meta.get("engine", {})
    simulated = " (SIMULATED: every number is pretended)" if engine.get("simulated") else ""
    lines = [f"{meta.get('kind', 'session')} {engine.get('title', '')} {engine.get('model', '')}{simulated}".rstrip()]
    if meta.get("kind") == "tune":
        lines.append(f"objective: {meta.get('objective', {}).get('label', '')}")
    lines.append(f"workload: {meta.get('workload', {}).get('label', '')}")
    return "\n".join(lines)


def _level_facts(level: LevelRecord) -> dict[str, Any]:
    return {
        "trial": level.trial,
        "kind": level.kind,
        "value": level.value,
        "state": level.state,
        "result": level.result,
        "notes": list(level.notes),
    }


def _level_line(level: LevelRecord) -> str:
    told = level.result
    text = (
        f"      {level.kind} {level.value:g}: {_stat(told, 'output_token_throughput', 'avg')} tok/s"
        f"  TTFT p50 {_stat(told, 'ttft', 'p50')} p99 {_stat(told, 'ttft', 'p99')} ms"
        f"  TPOT p50 {_stat(told, 'tpot', 'p50')} p99 {_stat(told, 'tpot', 'p99')} ms"
    )
    return (
        text
        if level.state == "valid"
        else f"{text}  [{level.state}: {level.notes[0] if level.notes else 'no reason told'}]"
    )


def _stat(result: Mapping[str, Mapping[str, float]], metric: str, stat: str) -> str:
    value = result.get(metric, {}).get(stat)
    return "-" if value is None or math.isnan(value) else f"{value:.4g}"


def _began(trial: Trial) -> dict[str, Any]:
    return {"event": "begin", "number": trial.number, "kind": trial.kind, "params": trial.params}


def _began_line(trial: Trial) -> str:
    return f"trial {trial.number} ({trial.kind}): {params_text(trial.params)}"


def _scored(meta: Mapping[str, Any]) -> tuple[str, str]:
    """What a score is, as in `ttft p99`, and its unit with a space before it."""
    objective = meta.get("objective", {})
    metric, stat, unit = (str(objective.get(key) or "") for key in ("metric", "stat", "unit"))
    return f"{metric or 'score'}{'' if stat in ('', 'avg') else f' {stat}'}", f" {unit}" if unit else ""


def _trial_line(trial: Trial, meta: Mapping[str, Any]) -> str:
    metric, unit = _scored(meta)
    if trial.end_ns is None:
        return _began_line(trial)
    if trial.failure is not None:
        return f"trial {trial.number} {trial.state}: {trial.failure.text}"
    if trial.score is None:
        return f"trial {trial.number} {trial.state}"
    slo = "" if trial.feasible else "  (breaks an SLO)"
    return f"trial {trial.number} {trial.state}: {metric} {trial.score:.5g}{unit}{slo}"


def _outcome(meta: Mapping[str, Any], summary: Summary, reader: SessionReader, path: Path) -> dict[str, Any]:
    status = reader.worker()
    return {
        "session": path_text(path),
        "ended": "" if status is None else status.text,
        "objective": meta.get("objective", {}).get("label", ""),
        "simulated": bool(meta.get("engine", {}).get("simulated")),
        "trials": dict(summary.states),
        "baseline": None if summary.baseline is None else trial_facts(summary.baseline),
        "best": None if summary.best is None else trial_facts(summary.best),
        "gain": summary.gain,
        "verdict": meta.get("verdict"),
        **insight_facts(meta, summary.best),
        "levels": [_level_facts(level) for level in reader.levels()] if meta.get("kind") == "bench" else None,
    }


def _outcome_lines(meta: Mapping[str, Any], summary: Summary, reader: SessionReader, path: Path) -> list[str]:
    status = reader.worker()
    metric, unit = _scored(meta)
    simulated = " (simulated)" if meta.get("engine", {}).get("simulated") else ""
    states = ", ".join(f"{count} {state}" for state, count in summary.states.items())
    lines = ["", f"ended: {'' if status is None else status.text}", f"trials: {states or 'none'}"]
    if meta.get("kind") == "tune":
        if summary.best is None:
            measured = any(trial.score is not None for trial in reader.trials())
            why = "meets every SLO" if measured else "was measured"
            lines.append(f"best configuration: none {why}")
        else:
            lines.append(f"best configuration (trial {summary.best.number}): {params_text(summary.best.params)}")
            lines.append(f"best {metric}{simulated}: {summary.best.score:.5g}{unit}")
        if summary.baseline is not None and summary.baseline.score is not None:
            broken = "" if summary.baseline.feasible else ", breaks an SLO"
            lines.append(f"baseline {metric}{simulated}: {summary.baseline.score:.5g}{unit}{broken}")
            lines.append(f"gain over the baseline{simulated}: {gain_text(summary.gain)}")
        verdict = meta.get("verdict")
        if isinstance(verdict, dict):
            lines.append(f"verdict{simulated}: {verdict.get('text', '')}")
        lines += insight_lines(meta, summary.best)
    if meta.get("kind") == "bench":
        lines += level_table(reader.levels())
    lines.append(f"session: {path}")
    return lines


_TABLE: tuple[tuple[str, str, str], ...] = (
    ("tok/s", "output_token_throughput", "avg"),
    ("req/s", "request_throughput", "avg"),
    ("TTFT p50", "ttft", "p50"),
    ("p99 ms", "ttft", "p99"),
    ("ITL p50", "itl", "p50"),
    ("p99 ms", "itl", "p99"),
    ("TPOT p50", "tpot", "p50"),
    ("p99 ms", "tpot", "p99"),
    ("E2E p50", "e2e", "p50"),
    ("p99 ms", "e2e", "p99"),
    ("errors", "error_ratio", "avg"),
    ("goodput", "goodput", "avg"),
    ("lag p99 ms", "client_lag", "p99"),
)
"""Columns of the table at the end of a bench: heading, metric, statistic."""


def level_table(levels: Sequence[LevelRecord]) -> list[str]:
    """The levels of a bench as a table, with the conditions of each below it."""
    rows = [["level", "requests", *(heading for heading, _, _ in _TABLE)]]
    for level in levels:
        count = _stat(level.result, "requests", "avg")
        cells = [_stat(level.result, metric, stat) for _, metric, stat in _TABLE]
        rows.append([f"{level.kind} {level.value:g}", count, *cells])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    notes = [f"{level.kind} {level.value:g}: {'; '.join(level.notes)}" for level in levels]
    return ["", *lines, "", *notes]


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _without_nan(inner) for key, inner in value.items()}
    return [_without_nan(inner) for inner in value] if isinstance(value, list | tuple) else value


@contextlib.contextmanager
def _signals(wish: _Wish) -> Iterator[None]:
    """Count Ctrl-C and SIGTERM instead of dying of them. SIGHUP still ends us: the worker goes on by itself."""

    def count(*_: object) -> None:
        wish.stops += 1

    before = {number: signal.signal(number, count) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
