"""A Ray cluster as trials and load use it: connecting, and what its promises and its errors come to."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, Final

from engines.errors import EngineError
from tuner.errors import TunerError
from tuner.load.errors import LoadError

EXCHANGES: Final = 7
"""Questions for the time of a host; the quickest answer tells most."""

ANSWER_S: Final = 5.0
CONNECT_S: Final = 30.0
CLIENT_S: Final = 180.0
"""Ray's client waits until a process of its own has started on the head."""

CLIENT_TRIES: Final = 3
"""The head gives that process half a minute, which a busy one may not keep the first time."""


class NoCluster(TunerError):
    """The cluster cannot be used."""


async def connect(address: str) -> Any:
    """Ray, connected to a cluster; connected already, it stays so.

    Args:
        address: `ray://HOST:10001`, `HOST:6379`, or `auto` for the one this host belongs to.

    Raises:
        NoCluster: If Ray is not installed or nobody answers.
    """
    try:
        import ray
    except ImportError:
        raise NoCluster("--cluster needs Ray: pip install 'trtune[cluster]'") from None
    if ray.is_initialized():
        return ray
    await _require_answer(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody outside
    tries, limit_s = (CLIENT_TRIES, CLIENT_S) if address.startswith("ray://") else (1, CONNECT_S)
    for left in reversed(range(tries)):
        try:
            connecting = asyncio.to_thread(
                ray.init, address=address, logging_level=logging.ERROR, log_to_driver=False, configure_logging=False
            )
            await asyncio.wait_for(connecting, limit_s)
            break
        except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
            if left and isinstance(error, ConnectionAbortedError):
                continue
            raise NoCluster(_no_answer(address, str(error))) from None
    return ray


async def _require_answer(address: str) -> None:
    """Make sure that somebody listens: Ray itself would try for minutes.

    Raises:
        NoCluster: If nobody does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # `auto`, `local`: Ray knows where to look
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host.strip("[]"), int(port)), ANSWER_S)
    except (OSError, TimeoutError) as error:
        raise NoCluster(_no_answer(address, str(error))) from None
    writer.close()


def _no_answer(address: str, told: str) -> str:
    reason = " ".join(told.split())[:160] or "no answer"
    return f"no Ray cluster answers at {address} ({reason}): start one with `ray start --head`, or check the address"


def own_error(error: Any) -> Exception:
    """What went wrong on the other host, as the error of ours that it was there."""
    cause = error.cause if isinstance(getattr(error, "cause", None), Exception) else None
    return cause if isinstance(cause, TunerError | EngineError | LoadError) else TunerError(telling_line(error))


def future_of(reference: Any) -> asyncio.Future[Any]:
    """Ray's promise as asyncio's."""
    return asyncio.wrap_future(reference.future())


def telling_line(error: Exception) -> str:
    """The telling line of Ray's long errors."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
