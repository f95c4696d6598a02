"""Runs a simulation in real time: every iteration ends at an absolute deadline.

Late deliveries do not delay the next deadline, so a hiccup is caught up instead of slowing the pretend server down. When the
process cannot keep up at all, ``lag`` says by how much; results measured then are not to be trusted.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from engines.simulated.greedy import GreedyModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engines.simulated.model import GenerationRequest, Iteration, RequestState, Simulation

_LOG: Final = logging.getLogger(__name__)

_TIMER_MS: Final = 2.0
"""Lateness that the event loop's own timers explain; it is not counted."""

_WARN_MS: Final = 50.0
_WARN_EVERY_S: Final = 1.0


class TokenSink(Protocol):
    """Where a request's tokens go; called from the pacing loop, so it must not wait."""

    def token(self, state: RequestState) -> None:
        """Take note that ``state`` has one token more, or has finished with it."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far real time has left the simulation behind, in real milliseconds.

    Attributes:
        behind_ms: at the newest iteration.
        worst_ms: at the worst iteration since start.
        late_iterations: iterations delivered late.
        iterations: iterations delivered.
    """

    behind_ms: float
    worst_ms: float
    late_iterations: int
    iterations: int


class PacedEngine:
    """Owns a simulation and delivers its tokens when they are due."""

    def __init__(
        self, simulation: Simulation, speed: float = 1.0, answer_loss: Mapping[str, float] | None = None
    ) -> None:
        """Get ready; ``run`` does the work.

        Args:
            simulation: what to run.
            speed: virtual seconds for each real second.
            answer_loss: share of greedy words that a precision changes, where it is not the usual one.
        """
        self.simulation = simulation
        self.greedy = GreedyModel.of(simulation, answer_loss or {})
        self._speed = speed
        self._sinks: dict[int, TokenSink] = {}
        self._listeners: list[Callable[[Iteration], None]] = []
        self._wake = asyncio.Event()
        self._origin_s = 0.0
        self._frozen = asyncio.Event()
        self._behind_ms = 0.0
        self._worst_ms = 0.0
        self._late = 0
        self._delivered = 0
        self._warned_at_s = 0.0

    @property
    def lag(self) -> Lag:
        """How well the process keeps up."""
        return Lag(self._behind_ms, self._worst_ms, self._late, self._delivered)

    @property
    def open_requests(self) -> int:
        """Requests whose last token has not been delivered."""
        return len(self._sinks)

    def listen(self, listener: Callable[[Iteration], None]) -> None:
        """Have every iteration reported when it ends, after its tokens went out."""
        self._listeners.append(listener)

    def submit(self, request: GenerationRequest, sink: TokenSink) -> RequestState:
        """Queue a request now; its tokens go to ``sink``.

        Raises:
            PromptTooLongError: the prompt cannot be served.
        """
        state = self.simulation.submit(request, arrival_ms=self._virtual_now_ms())
        self._sinks[state.id] = sink
        self._wake.set()
        return state

    def abort(self, state: RequestState) -> None:
        """Cancel a request; its sink hears nothing more."""
        if self._sinks.pop(state.id, None) is not None:
            self.simulation.abort(state)

    def freeze(self) -> None:
        """Stop for ever, as a dead executor behind a living HTTP server does."""
        self._frozen.set()

    def _virtual_now_ms(self) -> float:
        """Return the virtual time that corresponds to this moment; idle time counts."""
        now_ms = (asyncio.get_running_loop().time() - self._origin_s) * 1e3 * self._speed
        if not self.simulation.has_work:
            self.simulation.advance_to(now_ms)
        return now_ms

    async def run(self) -> None:
        """Deliver iterations until cancelled."""
        loop = asyncio.get_running_loop()
        self._origin_s = loop.time() - self.simulation.now_ms / 1e3 / self._speed
        while True:
            if self._frozen.is_set() or not self.simulation.has_work:
                self._wake.clear()
                await self._wake.wait()
                continue
            iteration = self.simulation.step()
            due_s = self._origin_s + iteration.end_ms / 1e3 / self._speed
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            if self._frozen.is_set():
                continue
            self._deliver(iteration)
            self._note_lag((loop.time() - due_s) * 1e3, loop.time())

    def _deliver(self, iteration: Iteration) -> None:
        sinks = self._sinks
        for state in iteration.emitted:
            sink = sinks.get(state.id)
            if sink is not None:
                sink.token(state)
        for state in iteration.completed:
            sinks.pop(state.id, None)
        for listener in self._listeners:
            listener(iteration)

    def _note_lag(self, late_ms: float, now_s: float) -> None:
        self._delivered += 1
        self._behind_ms = late_ms if late_ms > _TIMER_MS else 0.0
        if not self._behind_ms:
            return
        self._late += 1
        self._worst_ms = max(self._worst_ms, late_ms)
        if late_ms > _WARN_MS and now_s - self._warned_at_s > _WARN_EVERY_S:
            self._warned_at_s = now_s
            _LOG.warning(
                "simulated: this process is %.0f ms behind real time; figures measured now are too slow", late_ms
            )
