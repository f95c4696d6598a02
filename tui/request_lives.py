"""The life of each request of a level: scheduled, sent, first token, last token, end. Loaded only when looked at."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sessions.text import clean_line

if TYPE_CHECKING:
    from pathlib import Path

    from sessions.requests import RequestTable

Order = Literal["sent", "slowest start", "slowest end"]
ORDERS: tuple[Order, ...] = ("sent", "slowest start", "slowest end")


@dataclass(frozen=True, slots=True)
class RequestLife:
    """One request; times are session time, None where a moment never came.

    Attributes:
        index: Place in the schedule.
        scheduled_ns: When it should have left.
        sent_ns: When it left.
        first_ns: First token.
        last_ns: Last token.
        end_ns: End of the answer or of the attempt.
        isl_tokens: Prompt tokens, or None.
        osl_tokens: Output tokens, or None.
        cached_tokens: Prompt tokens found in the prefix cache, or None.
        status: How it ended, in a word; `ok` when well.
        error: What went wrong, or empty.
        lag_ms: How late we read the first token, or None.
        gaps_ms: Gaps between its chunks.
        kernel_clock: Whether the kernel stamped its tokens.
    """

    index: int
    scheduled_ns: int
    sent_ns: int
    first_ns: int | None
    last_ns: int | None
    end_ns: int
    isl_tokens: int | None
    osl_tokens: int | None
    cached_tokens: int | None
    status: str
    error: str
    lag_ms: float | None
    gaps_ms: tuple[float, ...]
    kernel_clock: bool

    @property
    def ttft_ms(self) -> float | None:
        """Queue and prefill together: from the scheduled moment to the first token."""
        return None if self.first_ns is None else (self.first_ns - self.scheduled_ns) / 1e6

    @property
    def decode_ms(self) -> float | None:
        """From the first token to the last."""
        return None if self.first_ns is None or self.last_ns is None else (self.last_ns - self.first_ns) / 1e6

    @property
    def e2e_ms(self) -> float | None:
        """From the scheduled moment to the last token."""
        return None if self.last_ns is None else (self.last_ns - self.scheduled_ns) / 1e6

    @property
    def tpot_ms(self) -> float | None:
        """Time per output token."""
        tokens = self.osl_tokens or 0
        return None if self.decode_ms is None or tokens < 2 else self.decode_ms / (tokens - 1)


class RequestLives:
    """All requests of a level, in an order."""

    def __init__(self, table: RequestTable, order: Order = "sent") -> None:
        import numpy as np  # not before somebody looks at requests

        self._table = table
        self._offsets = table.chunk_offsets()
        self.order = order
        start = np.where(table.scheduled_ns >= 0, table.scheduled_ns, table.sent_ns)
        far = np.int64(1 << 62)
        keys = {
            "sent": table.sent_ns,
            "slowest start": -np.where(table.first_ns >= 0, table.first_ns - start, far),
            "slowest end": -np.where(table.last_ns >= 0, table.last_ns - start, far),
        }
        self._places = np.argsort(keys[order], kind="stable")
        self._sent_ns = table.sent_ns[self._places]
        self.failed = int((table.status != 0).sum())

    def __len__(self) -> int:
        return len(self._table)

    def ordered(self, order: Order) -> RequestLives:
        """The same requests in another order."""
        return RequestLives(self._table, order)

    def place_at(self, t_ns: int) -> int:
        """Place of the last request sent by a moment; 0 when none was, or the order is another."""
        if self.order != "sent":
            return 0
        return max(0, int(self._sent_ns.searchsorted(t_ns, side="right")) - 1)

    def life(self, place: int) -> RequestLife:
        """The request at a place of the order."""
        from sessions.requests import ClockKind, RequestStatus

        table, row = self._table, int(self._places[place])
        chunks = table.chunk_us[self._offsets[row] : self._offsets[row + 1]]
        error = int(table.error[row])
        status = int(table.status[row])
        known = status in [member.value for member in RequestStatus]
        lag_us = int(table.lag_first_us[row])
        scheduled_ns = int(table.scheduled_ns[row])
        return RequestLife(
            index=int(table.index[row]),
            scheduled_ns=scheduled_ns if scheduled_ns >= 0 else int(table.sent_ns[row]),
            sent_ns=int(table.sent_ns[row]),
            first_ns=_told(table.first_ns[row]),
            last_ns=_told(table.last_ns[row]),
            end_ns=int(table.end_ns[row]),
            isl_tokens=_told(table.isl_tokens[row]),
            osl_tokens=_told(table.osl_tokens[row]),
            cached_tokens=_told(table.cached_tokens[row]),
            status=RequestStatus(status).name.lower() if known else f"status {status}",
            error=clean_line(table.errors[error]) if 0 <= error < len(table.errors) else "",
            lag_ms=None if lag_us < 0 else lag_us / 1000,
            gaps_ms=tuple(float(after - before) / 1000 for before, after in itertools.pairwise(chunks)),
            kernel_clock=int(table.clock[row]) == ClockKind.KERNEL,
        )


def read_lives(path: Path, level: int, order: Order) -> RequestLives:
    """The requests of a level.

    Raises:
        SessionError: If they cannot be read.
    """
    from sessions.reader import SessionReader

    with SessionReader(path) as reader:
        return RequestLives(reader.requests(level), order)


def _told(value: object) -> int | None:
    number = int(value)  # type: ignore[call-overload]
    return None if number < 0 else number
