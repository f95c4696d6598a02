"""One trial: start a configuration, measure it at its levels, stop it. Everything it does goes into the session."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from engines.errors import BadConfiguration, CannotStart, EngineError, MissingProgram, NoRuntime, StartFailed
from engines.failure import Failure
from sessions.lanes import PLACED
from sessions.records import REFERENCE, FailureRecord
from tuner.load.errors import BadWorkload, LoadError
from tuner.measuring import Broken, Measurement, measure_levels
from tuner.search.levels import ListedLevels
from tuner.search.objective import Score, score_levels
from tuner.server import why_unwell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engines.base import ServerInfo
    from engines.launch.base import RunningServer
    from sessions.records import Metrics, Params
    from tuner.bench import Bench
    from tuner.control import Control
    from tuner.load.result import LevelResult
    from tuner.quality.checking import GateAnswer
    from tuner.search.levels import LevelChooser

    Gate = Callable[[Bench, int, RunningServer, ServerInfo], Awaitable[GateAnswer | None]]

TrialState = Literal["complete", "pruned", "infeasible", "failed", "skipped", "interrupted"]

UNEXPLAINED = ("exited", "died")
"""Kinds of failures that may be chance as long as no line of the log tells why."""

NOT_BEGUN = -1
"""Number of a trial that was ended while it waited for a place: the session has none of it."""

READ_BACK_S = 30.0
"""How long a server that is ready may take to say what is in force."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run.

    Attributes:
        kind: `baseline`, `search`, `enqueued`, `proof`, `reference` or `bench`.
        params: The configuration.
        chooser: Chooses its levels.
        incumbent: Score of the best trial so far; a trial that cannot beat it is left early. None: measured to the end.
        last_try: Whether a failure that shows no cause counts as the configuration's; else it may have been chance.
        gate: Called with the running server before it is measured: whether it may win. None: nothing is asked.
    """

    kind: str
    params: Params
    chooser: LevelChooser
    incumbent: float | None = None
    last_try: bool = True
    gate: Gate | None = None


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What became of a trial.

    Attributes:
        number: Its number in the session; `NOT_BEGUN` when the work ended while it waited.
        state: As in the session.
        score: What it is worth, when it was measured.
        failure: Why it was not, else.
        levels: Metrics of each level; None for an invalid one.
        gate: What the order's gate found; None when it was not asked.
    """

    number: int
    state: TrialState
    score: Score | None = None
    failure: Failure | None = None
    levels: tuple[Metrics | None, ...] = ()
    gate: GateAnswer | None = None


async def run_trial(bench: Bench, order: Order, on_number: Callable[[int], None] = lambda _: None) -> TrialResult:
    """Run one configuration from start to stop.

    Args:
        bench: What every trial shares.
        order: What is to be run.
        on_number: Told the trial's number in the session before anything is started.

    Returns:
        What became of it; failures of the server are results, not exceptions.
    """
    number = bench.recorder.start_trial(order.kind, order.params)
    bench.control.begin_trial(number)
    on_number(number)
    if bench.lane or bench.gpu_uuids:
        told = f"trial {number} runs on {bench.lane or 'the first lane'}"
        bench.recorder.event(PLACED, told, trial=number, data={"lane": bench.lane, "gpu_uuids": list(bench.gpu_uuids)})
    bench.recorder.start_phase(number, "prepare")
    server: RunningServer | None = None
    outcome: TrialResult | None = None
    gate: GateAnswer | None = None
    try:
        server = await bench.upkeep.bring(number, order.params)
        met = await bench.control.unless_interrupted(_meet(bench, number, order, server))
        if met:
            info, gate = met[0]
            outcome = await _judge(bench, number, order, server, info, gate)
    except (MissingProgram, CannotStart, NoRuntime, BadWorkload) as error:
        # No other configuration would fare better.
        bench.recorder.end_trial(number, "failed", failure=FailureRecord("cannot_start", str(error), "", ()))
        raise
    except StartFailed as error:
        outcome = _failed(number, order, error.failure)
    except Broken as error:
        outcome = _failed(number, order, error.failure)
    except BadConfiguration as error:
        outcome = _failed(number, order, Failure("bad_config", str(error)))
    except (EngineError, LoadError) as error:
        failure = Failure("failed", str(error), infeasible=False)
        outcome = _failed(number, order, await _cause(bench, server, failure))
    except TimeoutError:
        failure = Failure("hung", f"the server was ready and then did not answer for {READ_BACK_S:g} s")
        outcome = _failed(number, order, await _cause(bench, server, failure))
    finally:
        # Told now: a wish that comes while the server is being stopped comes too late to take the result away.
        outcome = _broken_off(bench.control, number) or outcome
        bench.control.end_trial()
        if server is not None:
            well = outcome is not None and outcome.score is not None
            await bench.upkeep.give_back(number, server, order.params, well=well)
    assert outcome is not None
    if outcome.state == "failed":  # it might have been tried again: then a resume does that
        outcome = _broken_off(bench.control, number) or outcome
    _record(bench, outcome)
    return replace(outcome, gate=gate)


def _broken_off(control: Control, number: int) -> TrialResult | None:
    """What becomes of a trial that the operator ended before it had its result; None when nobody did."""
    if control.stop.is_set():
        return TrialResult(number, "interrupted")
    return TrialResult(number, "skipped") if control.skipping else None


async def _cause(bench: Bench, server: RunningServer | None, failure: Failure) -> Failure:
    """What befell the server, if that is why something failed; else the failure itself."""
    if server is None or bench.control.interrupt.is_set():
        return failure
    return await why_unwell(server, bench.http) or failure


async def _judge(
    bench: Bench, number: int, order: Order, server: RunningServer, info: ServerInfo, gate: GateAnswer | None
) -> TrialResult:
    """Measure a running server, unless its gate refuses it, and say what it is worth."""
    if gate is not None and gate.refusal is not None:
        return _failed(number, order, gate.refusal)
    measurement = await measure_levels(bench, number, order.params, server, info, order.chooser, order.incumbent)
    if order.kind == REFERENCE:
        return TrialResult(number, "complete")
    return _worth(bench, number, measurement)


async def _meet(bench: Bench, number: int, order: Order, server: RunningServer) -> tuple[ServerInfo, GateAnswer | None]:
    """What the server says of itself, and what the order's gate found; that is told at once: other trials may wait for it."""
    info = await asyncio.wait_for(_read_back(bench, number, server), READ_BACK_S)
    gate = None if order.gate is None else await order.gate(bench, number, server, info)
    if gate is not None:
        bench.on_gate(number, gate)
    return info, gate


async def _read_back(bench: Bench, number: int, server: RunningServer) -> ServerInfo:
    """Ask the server what is in force: what is measured is the effective configuration."""
    info = await bench.engine.inspect(bench.http, server.url)
    effective = {**info.effective, **bench.engine.effective_from_log(server.log_lines)}
    bench.recorder.update_trial(number, effective=effective)
    for note in info.notes:
        bench.recorder.log("worker", "info", note)
    return info


def every_level(levels: tuple[float, ...]) -> LevelChooser:
    """All levels whatever they come to: a bench is asked for each of them."""
    return ListedLevels(tuple(sorted(set(levels))), stop_when_broken=False)


def _worth(bench: Bench, number: int, measurement: Measurement) -> TrialResult:
    levels = tuple(result.metrics if result.valid else None for result in measurement.results)
    score = score_levels(bench.objective, levels)
    if score.value is None:
        failure = Failure("invalid", _why_nothing(measurement.results), infeasible=False)
        return TrialResult(number, "failed", failure=failure, levels=levels)
    state: TrialState = "pruned" if measurement.left_early else "complete"
    return TrialResult(number, state, score=score, levels=levels)


def _why_nothing(results: list[LevelResult]) -> str:
    """Why no level gave a result: what the server answered says more than what the client made of it."""
    if not results:
        return "nothing was measured"
    told = next(iter(results[-1].error_texts), "")
    reason = next(iter(results[-1].reasons), "the objective was not measured")
    return f"{reason}: {told}" if told else reason


def _failed(number: int, order: Order, failure: Failure) -> TrialResult:
    chance = not order.last_try and failure.kind in UNEXPLAINED and not failure.line
    infeasible = failure.infeasible and not chance
    return TrialResult(number, "infeasible" if infeasible else "failed", failure=failure)


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
