"""How long a request may take in each of its phases, and how much its answer may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.load.hotpath import frames

if TYPE_CHECKING:
    from tuner.load.hotpath.exchange import Exchange
    from tuner.load.hotpath.settings import Settings


def limit_reached(settings: Settings, exchange: Exchange, now_ns: int) -> tuple[int, str] | None:
    """Why a request must end now: code and text, or None while it may go on."""
    age_ns = now_ns - exchange.sent_ns
    if 0 <= exchange.item.cancel_after_ns <= age_ns:
        return frames.ENDED_CANCELLED, "given up by the workload"
    if not exchange.body_started:
        if age_ns > settings.first_byte_timeout_ns:
            return frames.ENDED_TIMEOUT, limit_text("no token", settings.first_byte_timeout_ns)
    elif now_ns - exchange.last_read_ns > settings.idle_timeout_ns:
        return frames.ENDED_TIMEOUT, limit_text("silent", settings.idle_timeout_ns)
    if age_ns > settings.total_timeout_ns:
        return frames.ENDED_TIMEOUT, limit_text("not done", settings.total_timeout_ns)
    if exchange.answer.body_bytes > settings.max_body_bytes:
        return frames.ENDED_INVALID, f"the body of the answer exceeds {settings.max_body_bytes} bytes"
    return None


def limit_text(what: str, limit_ns: int) -> str:
    """What did not come about in time, in words."""
    return f"{what} within {limit_ns / 1e9:g} s"
