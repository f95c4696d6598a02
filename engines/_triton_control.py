"""Triton's model control over HTTP: index, configuration, unload and load, with the traps of contract triton section 7."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from engines._http import MAX_BODY_BYTES, get
from engines.errors import BadConfiguration, EngineError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

UNLOAD_TIMEOUT_S = 120.0
LOAD_TIMEOUT_S = 1800.0
_ASK_EVERY_S = 0.1
_SHORT_S = 10.0


class LoadRefused(EngineError):
    """Triton could not load the model; the text is the server's, shortened to printable characters."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """A row of the repository's index.

    Attributes:
        name: The model.
        state: `READY`, `UNAVAILABLE`, `UNLOADING`, `LOADING`, or empty for one that was never loaded.
        reason: Why it is in that state, where the server says it.
    """

    name: str
    state: str
    reason: str


async def index(http: aiohttp.ClientSession, url: str) -> tuple[ModelState, ...]:
    """Every model of the repository.

    Raises:
        Unreachable: If nobody answers.
        EngineError: If the answer is no index.
    """
    status, body = await _post(http, f"{url}/v2/repository/index", {}, _SHORT_S)
    try:
        rows = orjson.loads(body)
    except orjson.JSONDecodeError:
        rows = None
    if status != 200 or not isinstance(rows, list):
        raise EngineError(f"{url}/v2/repository/index answers {status} and no list of models; is it a Triton?")
    return tuple(
        ModelState(str(row.get("name", "")), str(row.get("state", "")), str(row.get("reason", "")))
        for row in rows
        if isinstance(row, dict)
    )


async def config_of(http: aiohttp.ClientSession, url: str, model: str) -> dict[str, Any]:
    """A loaded model's configuration.

    Raises:
        Unreachable: If nobody answers.
        EngineError: If the model is not loaded.
    """
    answer = await get(http, f"{url}/v2/models/{model}/config")
    config = answer.json() if answer.status == 200 else None
    if not isinstance(config, dict):
        raise EngineError(f"{answer.url} answers {answer.status}: model {model!r} is not loaded")
    return config


async def unload(http: aiohttp.ClientSession, url: str, model: str) -> None:
    """Unload a model and wait until the index says that it is gone: the answer to the request comes before that.

    Raises:
        BadConfiguration: If the server was started without explicit model control.
        EngineError: If the model is not gone in time.
        Unreachable: If nobody answers.
    """
    status, body = await _post(http, f"{url}/v2/repository/models/{model}/unload", {}, _SHORT_S)
    if status != 200:
        raise _refused(status, body, model)
    deadline_s = time.monotonic() + UNLOAD_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if all(row.state == "UNAVAILABLE" for row in await index(http, url) if row.name == model):
            return
        await asyncio.sleep(_ASK_EVERY_S)
    raise EngineError(f"model {model!r} was not unloaded within {UNLOAD_TIMEOUT_S:g} s: restart the server")


async def load(
    http: aiohttp.ClientSession,
    url: str,
    model: str,
    config: Mapping[str, Any] | None,
    timeout_s: float = LOAD_TIMEOUT_S,
) -> None:
    """Load a model, from disk or with another configuration.

    Args:
        http: Client.
        url: Base URL of the server.
        model: The model.
        config: Configuration to load it with; None takes what lies on the server's disk.
        timeout_s: A load can hang for ever; after this time it is given up, and the server must be restarted.

    Raises:
        BadConfiguration: If the server was started without explicit model control.
        LoadRefused: If the model does not start.
        EngineError: If the load hangs.
        Unreachable: If nobody answers.
    """
    body = {} if config is None else {"parameters": {"config": json.dumps(config)}}
    try:
        status, answer = await _post(http, f"{url}/v2/repository/models/{model}/load", body, timeout_s)
    except TimeoutError as error:
        raise EngineError(f"the load of model {model!r} hangs since {timeout_s:g} s: restart the server") from error
    if status != 200:
        raise _refused(status, answer, model)


def _refused(status: int, body: bytes, model: str) -> EngineError:
    try:
        told = orjson.loads(body)
        text = str(told.get("error", "")) if isinstance(told, dict) else ""
    except orjson.JSONDecodeError:
        text = body.decode("utf-8", "replace")
    shown = " ".join("".join(char if char.isprintable() else " " for char in text).split())[:2000]
    if "explicit model load / unload is not allowed" in shown:
        return BadConfiguration("this Triton takes no new settings: start it with --model-control-mode=explicit")
    if status == 403:
        return BadConfiguration("this Triton restricts model control: it wants the header of --http-restricted-api")
    return LoadRefused(shown or f"Triton answers {status} to the load of model {model!r}")


async def _post(http: aiohttp.ClientSession, url: str, body: object, timeout_s: float) -> tuple[int, bytes]:
    """One POST.

    Raises:
        TimeoutError: If the answer does not come in time.
        Unreachable: If nobody answers.
        EngineError: If the answer is too large.
    """
    try:
        async with asyncio.timeout(timeout_s), http.post(url, json=body, allow_redirects=False) as response:
            answer = await response.content.read(MAX_BODY_BYTES + 1)
            rest = await response.content.read(1) if len(answer) <= MAX_BODY_BYTES else b"x"
            while rest and len(answer) <= MAX_BODY_BYTES:
                answer += rest
                rest = await response.content.read(65536)
            if len(answer) > MAX_BODY_BYTES:
                raise EngineError(f"{url} answers with more than {MAX_BODY_BYTES} bytes; it was not read further")
            return response.status, answer
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if isinstance(error, TimeoutError):
            raise
        raise Unreachable(f"{url} cannot be reached: {str(error) or type(error).__name__}") from error
