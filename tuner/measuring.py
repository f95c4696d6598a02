"""The levels of a trial: which come, how each is measured, and when the rest is not worth measuring."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sessions.columns import LOAD_COLUMNS
from sessions.reader import SessionReader
from sessions.resources import Resources, energy_in, with_resources
from tuner.load.errors import LoadError
from tuner.load.precision import judged_by
from tuner.load.spec import Level
from tuner.sampling import EngineSampler
from tuner.search.bounds import eased_by_load, worth_going_on
from tuner.search.levels import Measured
from tuner.server import Watchdog, endpoint_for

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from engines.base import ServerInfo
    from engines.failure import Failure
    from engines.launch.base import RunningServer
    from sessions.records import Params
    from tuner.bench import Bench
    from tuner.load.live import LoadProgress
    from tuner.load.result import LevelResult
    from tuner.load.spec import StopRule
    from tuner.search.levels import LevelChooser
    from tuner.search.objective import Objective

_LOAD_COLUMNS = tuple(column.name for column in LOAD_COLUMNS)

TAIL_REQUESTS = 100
"""Requests that a level needs before a limit on a 99th percentile means anything."""

PROFILED = "the server's profiler ran while it was measured: these times are not the server's own"

_TAILS = ("p95", "p99", "max")


@dataclass(slots=True)
class Measurement:
    """What the levels of a trial came to.

    Attributes:
        results: In the order measured.
        left_early: Whether the trial was left because it could not win.
    """

    results: list[LevelResult] = field(default_factory=list)
    left_early: bool = False

    def levels(self, objective: Objective) -> list[Measured]:
        """The same for the choice of the next level, under an objective that may have changed meanwhile."""
        return [_measured(objective, result) for result in self.results]


class Broken(Exception):
    """The server failed while it was measured."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


async def measure_levels(
    bench: Bench,
    number: int,
    params: Params,
    server: RunningServer,
    info: ServerInfo,
    chooser: LevelChooser,
    incumbent: float | None,
) -> Measurement:
    """Measure a running server at the levels of a trial.

    Args:
        bench: What every trial shares.
        number: The trial.
        params: Its configuration.
        server: The server.
        info: What it told about itself.
        chooser: Chooses the levels.
        incumbent: Score of the best trial so far; a trial that cannot beat it is left. None: every level is measured.

    Raises:
        Broken: If the server dies or hangs.
    """
    measurement = Measurement()
    sampler = EngineSampler(bench.engine, bench.http, server.url, bench.recorder, bench.lane)
    bench.upkeep.listener = sampler.line
    watchdog = Watchdog(server, bench.http, bench.plan.engine.hang_timeout_s, bench.control.interrupt)
    try:
        while (value := chooser.next(measurement.levels(bench.objective))) is not None:
            if incumbent is not None and not _is_worth_it(bench, measurement, incumbent):
                break
            if not await bench.control.unless_interrupted(bench.control.gate()):
                break
            level = Level(bench.plan.load.kind, value)
            running = _run_level(bench, number, params, server, info, level, watchdog)
            measurement.results.append(await _watched(running, bench, watchdog))
    finally:
        bench.upkeep.listener = None
        await watchdog.close()
        await sampler.close()
    if watchdog.failure is not None:
        raise Broken(watchdog.failure)
    return measurement


def _measured(objective: Objective, result: LevelResult) -> Measured:
    broken = objective.worst_broken(result.metrics)
    return Measured(
        value=result.level.value,
        score=objective.value(result.metrics) if result.valid else None,
        violation=objective.violation(result.metrics),
        too_light=broken is not None and eased_by_load(broken),
        uncertainty=result.relative_half_width,
    )


def _is_worth_it(bench: Bench, measurement: Measurement, incumbent: float) -> bool:
    """Whether a further level could make this trial better than it is, and better than the best one.

    Told where there is a bound: for one objective in a closed loop.
    """
    load, objective = bench.plan.load, bench.objective
    if load.kind != "concurrency" or len(bench.objectives) > 1:
        return True
    lightest, heaviest = min(load.levels), max(load.levels)
    verdict = worth_going_on(objective, measurement.levels(objective), lightest, heaviest, incumbent)
    measurement.left_early = verdict == "hopeless"
    return verdict == "yes"


def _stop_rule(bench: Bench, level: Level) -> StopRule:
    objective = bench.objective
    rule = bench.plan.load.stop_rule(level, objective.metric, objective.stat, bench.precision)
    if rule.precision is None or not any(slo.stat in _TAILS for slo in objective.slos):
        return rule
    return rule.model_copy(update={"min_requests": max(rule.min_requests, TAIL_REQUESTS)})


async def _watched(running: Awaitable[LevelResult], bench: Bench, watchdog: Watchdog) -> LevelResult:
    """Measure one level; when it fails, the server is looked at before the level is blamed.

    Raises:
        Broken: If the server died or hangs.
        LoadError: If the level cannot be measured on a server that is well.
    """
    try:
        result = await running
    except LoadError as error:
        if (failure := await watchdog.look()) is not None:
            raise Broken(failure) from error
        raise
    if not result.valid and not bench.control.interrupt.is_set():
        await watchdog.look()
    if watchdog.failure is not None:
        raise Broken(watchdog.failure)
    return result


async def _run_level(
    bench: Bench,
    number: int,
    params: Params,
    server: RunningServer,
    info: ServerInfo,
    level: Level,
    watchdog: Watchdog,
) -> LevelResult:
    recorder, load = bench.recorder, bench.plan.load
    identity = recorder.start_level(number, level.kind, level.value)
    phase = ""

    def on_progress(progress: LoadProgress) -> None:
        nonlocal phase
        if progress.phase != phase:
            phase = progress.phase
            recorder.start_phase(number, phase, identity)
        watchdog.progress(progress.in_flight, progress.output_tokens_total)
        recorder.add_sample(bench.source, progress.t_ns, [getattr(progress, name) for name in _LOAD_COLUMNS])

    watchdog.level_begins(load.level_timeout_s)
    bench.upkeep.profiled = bench.upkeep.profiling
    rule = _stop_rule(bench, level)
    try:
        result = await bench.load.run(
            endpoint_for(bench.plan.engine, bench.engine, server.url, info),
            bench.plan.workload,
            level,
            rule,
            load.limits,
            clock=recorder.clock,
            slos=bench.objective.slos,
            on_requests=lambda table: recorder.add_requests(identity, table),
            on_progress=on_progress,
            stop_event=bench.control.interrupt,
        )
    except BaseException:
        recorder.end_level(identity, "aborted")
        raise
    finally:
        watchdog.level_over()
    result = _with_resources(bench, number, params, result)
    if bench.upkeep.profiled:
        result = replace(result, valid=False, reasons=(PROFILED, *result.reasons))
    broken_off = bench.control.interrupt.is_set()
    recorder.end_level(
        identity,
        "aborted" if broken_off else "valid" if result.valid else "invalid",
        window_ns=(result.window_start_ns, result.window_end_ns),
        result=result.metrics,
        notes=_notes(result, rule),
    )
    return result


def _with_resources(bench: Bench, trial: int, params: Params, result: LevelResult) -> LevelResult:
    """A level with what it used of GPUs, energy and money."""
    window_ns = (result.window_start_ns, result.window_end_ns)
    gpus = bench.gpus_of(params)
    bench.recorder.flush()
    with SessionReader(bench.recorder.path) as reader:
        energy_j = energy_in(reader, *window_ns, gpus, trial)
    used = Resources(gpus, energy_j, (window_ns[1] - window_ns[0]) / 1e9, bench.plan.price.gpu_hour)
    return replace(result, metrics=with_resources(result.metrics, used))


def _notes(result: LevelResult, rule: StopRule) -> list[str]:
    """The conditions under which a level was measured, in words: what made it invalid comes first."""
    notes = list(result.reasons)
    notes.append(f"window closed by {result.stopped_by}, {result.clock} clock, token counts {result.token_counts}")
    if result.relative_half_width is not None:
        notes.append(f"95 % interval of {judged_by(rule.metric)} ±{result.relative_half_width:.1%}")
    connections = result.connections
    notes.append(f"connections: {connections.opened} opened, {connections.reused} reused, {connections.resent} resent")
    notes += [f"{count} x {text}" for text, count in result.error_texts.items()]
    return notes
