"""`/start_profile` and `/stop_profile`, which several servers have (contract trtllm 9; others 1 and 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from engines._http import post
from engines.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from engines._http import Answer

Action = Literal["start", "stop"]

TIMEOUT_S = 90.0
"""A start waits until a worker has acknowledged (60 s), a stop until the traces are on disk (35 s)."""


async def ask_profiler(
    http: aiohttp.ClientSession, url: str, action: Action, options: Mapping[str, object], hint: str
) -> str:
    """Start or stop the server's profiler; returns what it said, in one line.

    Args:
        http: Client.
        url: Base URL of the server.
        action: What to do.
        options: Body of the start; empty: none is sent.
        hint: What to do when the server has no such path.

    Raises:
        Unreachable: If nobody answers.
        EngineError: In one line, if the server refuses.
    """
    answer = await post(http, f"{url}/{action}_profile", options or None, TIMEOUT_S)
    if answer.status == 200:
        return _message(answer) or f"profiler {'started' if action == 'start' else 'stopped'}"
    if answer.status in (404, 405):
        raise EngineError(f"{answer.url} answers {answer.status}: {hint}")
    if answer.status == 409:
        raise EngineError("the profiler is already running, or about to: stop it first")
    raise EngineError(f"{answer.url} answers {answer.status}: {_message(answer) or 'no reason given'}")


def _message(answer: Answer) -> str:
    """The server's own words; printable and short, since it is not trusted."""
    try:
        data = answer.json()
    except EngineError:
        data = answer.text()
    if isinstance(data, dict):
        data = next((data[key] for key in ("message", "error", "detail") if isinstance(data.get(key), str)), "")
    return "".join(filter(str.isprintable, data))[:200].strip() if isinstance(data, str) else ""
