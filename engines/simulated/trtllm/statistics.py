"""Who gets an iteration record when: the three delivery regimes of ``/metrics`` (contract section 2.3)."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from engines.simulated.trtllm.versions import V1_2, V1_3, V1_3_TEE, ServerVersion

if TYPE_CHECKING:
    from collections.abc import Callable

    from engines.simulated.trtllm.arguments import TorchLlmArgs
    from engines.simulated.trtllm.iteration_records import IterationRecord


class Regime(StrEnum):
    """How records reach ``/metrics``."""

    DISABLED = "disabled"
    DIRECT = "direct"
    RACING = "racing"
    TEE = "tee"


WAIT_S: Final = 2.0
"""How long a read waits while there is nothing, and once more after the last record."""

_POLL_S: Final = 0.1
_AWAKE_S: Final = 0.5
"""How long the background collector keeps draining without a record before it sleeps."""

_COLLECTOR_SHARE: Final = 0.8
"""Share of the records the background collector wins in the race; the contract only says that readers lose many."""

_DEFAULT_LENGTH: Final = 1000


def regime_of(arguments: TorchLlmArgs, version: ServerVersion) -> Regime:
    """Return the regime a configuration has on a version."""
    if not arguments.enable_iter_perf_stats:
        return Regime.DISABLED
    if not arguments.return_perf_metrics or version < V1_2:
        return Regime.DIRECT
    return Regime.TEE if version >= V1_3_TEE else Regime.RACING


def _maximum(length: int | None) -> int | None:
    """Return a deque's limit: -1 is unlimited, None and 0 mean the default, as the HTTP side has it."""
    if length is not None and length < 0:
        return None
    return length or _DEFAULT_LENGTH


class StatisticsBuffers:
    """The engine-side buffer, the HTTP-side buffer and the background collector between them."""

    def __init__(
        self,
        arguments: TorchLlmArgs,
        version: ServerVersion,
        on_collected: Callable[[IterationRecord], None],
        seed: int = 0,
        wait_s: float = WAIT_S,
    ) -> None:
        """Get ready.

        Args:
            arguments: the server's settings.
            version: the server's version.
            on_collected: called for every record the background collector takes, for Prometheus.
            seed: seed of the race.
            wait_s: how long a read waits for a record.
        """
        self.regime = regime_of(arguments, version)
        self._warns_before_first = version < V1_3
        engine_limit = None if arguments.max_stats_len < 0 else max(1, arguments.max_stats_len)
        self._engine: deque[IterationRecord] = deque(maxlen=engine_limit)
        self._http: deque[IterationRecord] = deque(maxlen=_maximum(arguments.iter_stats_max_iterations))
        self._on_collected = on_collected
        self._race = random.Random(seed)  # noqa: S311  # a reproducible race, not a secret
        self._wait_s = wait_s
        self._awake = False
        self._last_record_s = 0.0
        self.dropped = 0
        self._had_request = False

    def append(self, record: IterationRecord) -> None:
        """Take a record from the engine; the oldest one is dropped silently when its buffer is full."""
        if self.regime is Regime.DISABLED:
            return
        self._had_request = True
        self._fall_asleep(record.built_at_s)
        self._last_record_s = record.built_at_s
        if self._awake and self._collector_wins():
            self._collect(record)
            return
        if len(self._engine) == self._engine.maxlen:
            self.dropped += 1
        self._engine.append(record)

    def request_completed(self) -> None:
        """Wake the background collector: it sleeps until a request completes (rule 4)."""
        if self.regime not in (Regime.TEE, Regime.RACING):
            return
        self._awake = True
        if self.regime is Regime.TEE:
            while self._engine:
                self._collect(self._engine.popleft())

    def _fall_asleep(self, now_s: float) -> None:
        if self._awake and now_s - self._last_record_s > _AWAKE_S:
            self._awake = False

    def _collector_wins(self) -> bool:
        return self.regime is Regime.TEE or self._race.random() < _COLLECTOR_SHARE

    def _collect(self, record: IterationRecord) -> None:
        self._on_collected(record)
        if self.regime is Regime.TEE:
            self._http.append(record)

    async def read(self) -> list[IterationRecord]:
        """Answer one ``GET /metrics``: what is there is handed out once and is then gone."""
        if self.regime is Regime.TEE:
            return _drain(self._http)
        if not self._had_request and self._warns_before_first and self.regime is not Regime.DISABLED:
            return []
        waited_s = 0.0
        pause_s = min(_POLL_S, self._wait_s)
        while not self._engine and waited_s < self._wait_s:
            await asyncio.sleep(pause_s)
            waited_s += pause_s
        records = _drain(self._engine)
        if records:
            await asyncio.sleep(self._wait_s)
        return records


def _drain(buffer: deque[IterationRecord]) -> list[IterationRecord]:
    records = list(buffer)
    buffer.clear()
    return records
