"""One trial: start a configuration, measure it at its levels, stop it. Everything it does goes into the session."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from engines.base import Failure
from engines.errors import BadConfiguration, EngineError, MissingProgram, StartFailed
from sessions.columns import LOAD_COLUMNS
from sessions.records import FailureRecord
from tuner.load.errors import BadWorkload, LoadError
from tuner.load.spec import Level
from tuner.sampling import EngineSampler
from tuner.search.levels import ListedLevels, Measured, best_possible
from tuner.search.objective import Score, score_levels
from tuner.server import Watchdog, endpoint_for, launch_spec, launcher_for, shown_launch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import aiohttp

    from engines.base import Engine, ServerInfo
    from engines.launch.base import RunningServer
    from sessions.recorder import Recorder
    from sessions.records import Metrics, Params
    from tuner.control import Control
    from tuner.load.generator import LoadGenerator
    from tuner.load.live import LoadProgress
    from tuner.load.result import LevelResult
    from tuner.plan import Plan
    from tuner.search.levels import LevelChooser
    from tuner.search.objective import Objective
    from tuner.server import Places

TrialState = Literal["complete", "pruned", "infeasible", "failed", "skipped", "interrupted"]


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What became of a trial.

    Attributes:
        number: Its number in the session.
        state: As in the session.
        score: What it is worth, when it was measured.
        failure: Why it was not, else.
    """

    number: int
    state: TrialState
    score: Score | None = None
    failure: Failure | None = None


@dataclass(slots=True)
class Bench:
    """What every trial of a worker shares.

    Attributes:
        plan: What is to be run.
        engine: The server's family.
        objective: What counts as better.
        recorder: The session.
        control: What the operator wants.
        http: For health, metrics and questions to the server.
        load: Sends the requests.
        places: Folders and ports.
        on_ready: Called when a server has become ready: GPU sources that live in it can be opened now.
        source: Number of the load's source of samples.
    """

    plan: Plan
    engine: Engine
    objective: Objective
    recorder: Recorder
    control: Control
    http: aiohttp.ClientSession
    load: LoadGenerator
    places: Places
    on_ready: Callable[[], Awaitable[None]]
    source: int = field(init=False)

    def __post_init__(self) -> None:
        self.source = self.recorder.add_source("load", "load", {"workload": self.plan.workload.name})


_GROWS_WITH_LOAD = frozenset(
    {"output_token_throughput", "input_token_throughput", "total_token_throughput", "request_throughput"}
)

_LOAD_COLUMNS = tuple(column.name for column in LOAD_COLUMNS)


@dataclass(slots=True)
class _Measurement:
    """What the levels of a trial came to.

    Attributes:
        results: In the order measured.
        levels: The same for the choice of the next level.
        left_early: Whether the trial was left because it could not win.
    """

    results: list[LevelResult] = field(default_factory=list)
    levels: list[Measured] = field(default_factory=list)
    left_early: bool = False

    def add(self, objective: Objective, result: LevelResult) -> None:
        """Take in one more level."""
        score = objective.value(result.metrics) if result.valid else None
        self.results.append(result)
        self.levels.append(Measured(result.level.value, score, objective.violation(result.metrics)))


class _Broken(Exception):
    """The server failed while it was measured."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


async def run_trial(
    bench: Bench,
    kind: str,
    params: Params,
    on_number: Callable[[int], None],
    *,
    guess: float | None = None,
    incumbent: float | None = None,
) -> TrialResult:
    """Run one configuration from start to stop.

    Args:
        bench: What every trial shares.
        kind: `baseline`, `search`, `enqueued` or `bench`.
        params: The configuration.
        on_number: Told the trial's number in the session before anything is started.
        guess: The load at which it should be at its best: where the search for the highest load begins.
        incumbent: Score of the best trial so far; a trial that cannot beat it is left early. None: measured to the end.

    Returns:
        What became of it; failures of the server are results, not exceptions.
    """
    bench.control.begin_trial()
    number = bench.recorder.start_trial(kind, params)
    on_number(number)
    bench.recorder.start_phase(number, "prepare")
    server: RunningServer | None = None
    try:
        server = await _start(bench, number, params)
        outcome = _judge(bench, number, await _measure(bench, number, server, guess, incumbent))
    except StartFailed as error:
        outcome = _failed(number, error.failure)
    except _Broken as error:
        outcome = _failed(number, error.failure)
    except BadConfiguration as error:
        outcome = _failed(number, Failure("bad_config", str(error)))
    except (MissingProgram, BadWorkload):
        # No other configuration would fare better.
        bench.recorder.end_trial(number, "failed")
        raise
    except (EngineError, LoadError) as error:
        outcome = _failed(number, Failure("failed", str(error), infeasible=False))
    finally:
        if server is not None:
            bench.recorder.start_phase(number, "stop")
            await server.stop()
    if bench.control.stop.is_set():
        outcome = TrialResult(number, "interrupted")
    elif bench.control.skipping:
        outcome = TrialResult(number, "skipped")
    _record(bench, outcome)
    return outcome


async def _start(bench: Bench, number: int, params: Params) -> RunningServer:
    recorder, plan = bench.recorder, bench.plan.engine
    spec = launch_spec(plan, bench.engine, params, bench.places, number)
    recorder.update_trial(number, launch=shown_launch(spec, bench.places))
    recorder.start_phase(number, "start")
    server = await launcher_for(plan).start(spec, lambda line: recorder.log("server", "info", line))
    try:
        ready = asyncio.ensure_future(server.wait_ready(bench.http, plan.start_timeout_s))
        interrupted = asyncio.ensure_future(bench.control.interrupt.wait())
        await asyncio.wait({ready, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        interrupted.cancel()
        if not ready.done():
            ready.cancel()
            return server
        recorder.update_trial(number, ready_s=await ready)
        await bench.on_ready()
    except BaseException:
        await server.stop()
        raise
    return server


async def _measure(
    bench: Bench, number: int, server: RunningServer, guess: float | None, incumbent: float | None
) -> _Measurement:
    """Measure the levels of a trial; in a search, leave it once it cannot beat the incumbent any more."""
    measurement = _Measurement()
    if bench.control.interrupt.is_set():
        return measurement
    info = await _read_back(bench, number, server)
    chooser = bench.plan.load.chooser(guess) if bench.plan.kind == "tune" else _every_level(bench.plan.load.levels)
    sampler = EngineSampler(bench.engine, bench.http, server.url, bench.recorder)
    watchdog = Watchdog(server, bench.http, bench.plan.engine.hang_timeout_s, bench.control.interrupt)
    try:
        while (value := chooser.next(measurement.levels)) is not None:
            if incumbent is not None and _is_hopeless(bench, measurement.levels, incumbent):
                measurement.left_early = True
                break
            await bench.control.gate()
            if bench.control.interrupt.is_set():
                break
            level = Level(bench.plan.load.kind, value)
            result = await _run_level(bench, number, server, info, level, watchdog)
            if watchdog.failure is not None:
                raise _Broken(watchdog.failure)
            measurement.add(bench.objective, result)
    finally:
        await watchdog.close()
        await sampler.close()
    if watchdog.failure is not None:
        raise _Broken(watchdog.failure)
    return measurement


async def _read_back(bench: Bench, number: int, server: RunningServer) -> ServerInfo:
    """Ask the server what is in force: what is measured is the effective configuration."""
    info = await bench.engine.inspect(bench.http, server.url)
    effective = {**info.effective, **bench.engine.effective_from_log(server.log_lines)}
    bench.recorder.update_trial(number, effective=effective)
    for note in info.notes:
        bench.recorder.log("worker", "info", note)
    return info


def _every_level(levels: tuple[float, ...]) -> LevelChooser:
    """All levels whatever they come to: a bench is asked for each of them."""
    return ListedLevels(tuple(sorted(set(levels))), stop_when_broken=False)


def _is_hopeless(bench: Bench, measured: Sequence[Measured], incumbent: float) -> bool:
    """Whether a trial can no longer beat the best one: told for throughput in a closed loop, where there is a bound."""
    objective, load = bench.objective, bench.plan.load
    bounded = objective.metric in _GROWS_WITH_LOAD and objective.direction == "maximize" and load.kind == "concurrency"
    return bounded and best_possible(measured, max(load.levels)) < incumbent


async def _run_level(
    bench: Bench, number: int, server: RunningServer, info: ServerInfo, level: Level, watchdog: Watchdog
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

    try:
        result = await bench.load.run(
            endpoint_for(bench.plan.engine, bench.engine, server.url, info),
            bench.plan.workload,
            level,
            load.stop_rule(level),
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
    broken_off = bench.control.interrupt.is_set()
    recorder.end_level(
        identity,
        "aborted" if broken_off else "valid" if result.valid else "invalid",
        window_ns=(result.window_start_ns, result.window_end_ns),
        result=result.metrics,
        notes=_notes(result),
    )
    return result


def _notes(result: LevelResult) -> list[str]:
    """The conditions under which a level was measured, in words: what made it invalid comes first."""
    notes = list(result.reasons)
    notes.append(
        f"window closed by {result.stopped_by}, {result.clock} clock, tokens counted from {result.token_counts}"
    )
    if result.relative_half_width is not None:
        notes.append(f"95 % interval ±{result.relative_half_width:.1%}")
    connections = result.connections
    notes.append(f"connections: {connections.opened} opened, {connections.reused} reused, {connections.resent} resent")
    notes += [f"{count} x {text}" for text, count in result.error_texts.items()]
    return notes


def _judge(bench: Bench, number: int, measurement: _Measurement) -> TrialResult:
    measured: list[Metrics | None] = [result.metrics if result.valid else None for result in measurement.results]
    score = score_levels(bench.objective, measured)
    if score.value is None:
        failure = Failure("invalid", _why_nothing(measurement.results), infeasible=False)
        return TrialResult(number, "failed", failure=failure)
    return TrialResult(number, "pruned" if measurement.left_early else "complete", score=score)


def _why_nothing(results: list[LevelResult]) -> str:
    """Why no level gave a result: what the server answered says more than what the client made of it."""
    if not results:
        return "nothing was measured"
    told = next(iter(results[-1].error_texts), "")
    reason = next(iter(results[-1].reasons), "the objective was not measured")
    return f"{reason}: {told}" if told else reason


def _failed(number: int, failure: Failure) -> TrialResult:
    return TrialResult(number, "infeasible" if failure.infeasible else "failed", failure=failure)


def _record(bench: Bench, outcome: TrialResult) -> None:
    score, failure = outcome.score, outcome.failure
    bench.recorder.end_trial(
        outcome.number,
        outcome.state,
        score=score.value if score else None,
        feasible=score.feasible if score else None,
        result=score.result if score else None,
        failure=None if failure is None else FailureRecord(failure.kind, failure.text, failure.line, failure.accuses),
    )
    if failure is not None:
        bench.recorder.log("worker", "error", f"trial {outcome.number}: {failure.text}")
