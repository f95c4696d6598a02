"""Requests as bytes: URL, head and JSON body of each API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from tuner.load.errors import BadWorkload

if TYPE_CHECKING:
    from tuner.load.prompts import Prompt
    from tuner.load.spec import Endpoint, Workload

_API_PATHS = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "triton": "/generate_stream",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint's URL leads.

    Attributes:
        tls: Whether the scheme is https.
        host: Name or address, without brackets.
        port: TCP port.
        path: Path of the API with its query.
        authority: Host and port as the Host header wants them.
    """

    tls: bool
    host: str
    port: int
    path: str
    authority: str


def parse_address(endpoint: Endpoint) -> Address:
    """Take an endpoint's URL apart and find the path of its API.

    `http://host:8000`, `http://host:8000/v1` and the full URL all lead to the same path.

    Raises:
        BadWorkload: If it is no http or https URL.
    """
    parts = urlsplit(endpoint.url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or not port or parts.username is not None:
        raise BadWorkload("endpoint URL must look like http://host:port, without user or password")
    if any(ord(char) <= 32 or ord(char) == 127 for char in endpoint.url):
        raise BadWorkload("endpoint URL must not contain blanks or control characters")
    path = parts.path.rstrip("/")
    if endpoint.api == "triton":
        if not path.endswith(_API_PATHS["triton"]):
            path += f"/v2/models/{endpoint.model}{_API_PATHS['triton']}"
    elif not path.endswith(_API_PATHS[endpoint.api]):
        path += ("" if path.endswith("/v1") else "/v1") + _API_PATHS[endpoint.api]
    if parts.query:
        path += "?" + parts.query
    return Address(parts.scheme == "https", parts.hostname, port, path, parts.netloc)


class RequestBuilder:
    """Turns prompts into whole HTTP requests."""

    def __init__(self, endpoint: Endpoint, workload: Workload) -> None:
        """Prepare the parts that all requests share.

        Raises:
            BadWorkload: If the endpoint's URL or a header cannot be sent.
        """
        self._endpoint = endpoint
        self._workload = workload
        address = parse_address(endpoint)
        lines = [
            f"POST {address.path} HTTP/1.1",
            f"Host: {address.authority}",
            "User-Agent: trtune",
            "Accept: text/event-stream",
            "Accept-Encoding: identity",
            "Content-Type: application/json",
        ]
        if endpoint.reuse_connections is False:
            lines.append("Connection: close")
        for name, value in endpoint.headers.items():
            # Neither name nor value may reach the message: a value here is often a key.
            if not name.isascii() or not value.isascii() or not name or any(char in name + value for char in "\r\n\0"):
                raise BadWorkload("an HTTP header of the endpoint is empty, not ASCII, or has a line break")
            lines.append(f"{name}: {value}")
        self._head = "\r\n".join(lines).encode()

    def build(
        self, messages: list[Prompt], osl_tokens: int, request_id: str, extra: dict[str, Any] | None = None
    ) -> bytes:
        """One request as bytes.

        Args:
            messages: What was said so far, user and assistant in turns, user first and last.
            osl_tokens: Length asked of the answer.
            request_id: Sent as X-Request-ID.
            extra: Fields of a dataset entry for this request.
        """
        body = orjson.dumps(self._body(messages, osl_tokens, extra))
        return b"%b\r\nX-Request-ID: %b\r\nContent-Length: %d\r\n\r\n%b" % (
            self._head,
            request_id.encode(),
            len(body),
            body,
        )

    def _body(self, messages: list[Prompt], osl_tokens: int, extra: dict[str, Any] | None) -> dict[str, Any]:
        endpoint, workload = self._endpoint, self._workload
        body: dict[str, Any] = {"model": endpoint.model} if endpoint.model and endpoint.api != "triton" else {}
        if endpoint.api == "chat":
            roles = ("user", "assistant")
            body["messages"] = [{"role": roles[i % 2], "content": text} for i, text in enumerate(messages)]
        else:
            body["text_input" if endpoint.api == "triton" else "prompt"] = _one_prompt(messages)
        body[endpoint.max_tokens_field] = osl_tokens
        body["stream"] = True
        if endpoint.api != "triton":
            body["stream_options"] = {"include_usage": True}
            if endpoint.continuous_usage:
                body["stream_options"]["continuous_usage_stats"] = True
            if workload.ignore_eos:
                body["ignore_eos"] = True
        else:
            body.update(_triton_fields(endpoint.max_tokens_field, osl_tokens, ignore_eos=workload.ignore_eos))
        body.update(endpoint.extra_body)
        body.update(extra or {})
        if endpoint.api != "chat" and "messages" in body:
            # An entry of a dataset made for the chat API: all that is said in it, as text.
            said = [part.get("content") for part in body.pop("messages") if isinstance(part, dict)]
            body["text_input" if endpoint.api == "triton" else "prompt"] = "\n".join(
                text for text in said if isinstance(text, str)
            )
        body.update(workload.extra)
        return {name: value for name, value in body.items() if value is not None}


def _triton_fields(max_tokens_field: str, osl_tokens: int, *, ignore_eos: bool) -> dict[str, Any]:
    """What Triton's backends want besides the text and the limit (contract triton 3.2, 4.2 and 5).

    Inputs of the LLM API are called `sampling_param_...`; it streams when `streaming` is set and can be forced to no
    length. The C++ backend takes `min_tokens`, vLLM both; what a model has no input for becomes a request parameter.
    """
    if max_tokens_field.startswith("sampling_param_"):
        return {"streaming": True}
    return {"min_tokens": osl_tokens, "ignore_eos": True} if ignore_eos else {}


def _one_prompt(messages: list[Prompt]) -> Prompt:
    if len(messages) == 1:
        return messages[0]
    if isinstance(messages[0], str):
        return "\n".join(part for part in messages if isinstance(part, str))
    return [token for part in messages if not isinstance(part, str) for token in part]
