"""Bounded GET requests to a server whose answers are not trusted."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from engines.errors import EngineError, Unreachable

MAX_BODY_BYTES = 10_000_000
MOST_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        url: What was asked.
        status: HTTP status.
        body: At most `MAX_BODY_BYTES`.
        latency_s: From the request to the last byte.
    """

    url: str
    status: int
    body: bytes
    latency_s: float

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            EngineError: If it is none.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            pass  # Python's own servers may write NaN, which only the standard library reads.
        try:
            return json.loads(self.body, parse_int=_number)
        except (ValueError, RecursionError) as error:
            raise EngineError(f"{self.url} answers {self.status} with something that is not JSON") from error

    def text(self) -> str:
        """The body as text, invalid UTF-8 replaced."""
        return self.body.decode("utf-8", "replace")


def _number(text: str) -> int | float:
    """A number without a point; one that no session can hold becomes a float, as orjson has it."""
    return int(text) if len(text) < MOST_DIGITS else float(text)


async def get(http: aiohttp.ClientSession, url: str, timeout_s: float = 5.0) -> Answer:
    """One GET.

    Raises:
        Unreachable: If nobody answers in time.
        EngineError: If the body is larger than `MAX_BODY_BYTES`.
    """
    return await _ask(http, "GET", url, None, timeout_s)


async def post(http: aiohttp.ClientSession, url: str, body: object | None, timeout_s: float = 5.0) -> Answer:
    """One POST, with a JSON body unless it is None.

    Raises:
        Unreachable: If nobody answers in time.
        EngineError: If the answer is larger than `MAX_BODY_BYTES`.
    """
    return await _ask(http, "POST", url, body, timeout_s)


async def _ask(
    http: aiohttp.ClientSession, method: str, url: str, body_sent: object | None, timeout_s: float
) -> Answer:
    start = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with http.request(method, url, json=body_sent, timeout=timeout, allow_redirects=False) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(65536):
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise EngineError(f"{url} answers with more than {MAX_BODY_BYTES} bytes; it was not read further")
            return Answer(url, response.status, bytes(body), time.monotonic() - start)
    except TimeoutError as error:
        raise Unreachable(f"{url} did not answer within {timeout_s:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unreachable(f"{url} cannot be reached: {_reason(error)}") from error


async def get_json_or_none(http: aiohttp.ClientSession, url: str, timeout_s: float = 5.0) -> Any:
    """The JSON of a 200, or None when the server has no such path or answers with something else."""
    try:
        answer = await get(http, url, timeout_s)
        return answer.json() if answer.status == 200 else None
    except EngineError:
        return None


def _reason(error: Exception) -> str:
    """The innermost cause in few words; aiohttp wraps the operating system's text."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    return str(error) or type(error).__name__
