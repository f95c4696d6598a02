"""What an answer says: tokens chunk by chunk, usage, errors, in the dialects of the OpenAI API and of Triton's generate_stream.

Sources: `tensorrt_llm/serve/postprocess_handlers.py` and `openai_protocol.py` (usage on every chunk is cumulative,
role chunk without content, named event after `[DONE]`); vLLM, llama.cpp (role with `content: null`, usage in a chunk
of its own), transformers (no `[DONE]`, usage on the last chunk); Triton's generate extension (no end mark, `error`
events with HTTP 200).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from tuner.load.sse import Event


MAX_TEXT_CHARS = 200
_REASONING_FIELDS = ("reasoning_content", "reasoning")
_UNNAMED = ("", "message")


class StreamedAnswer:
    """Reads the events of one streamed answer.

    It never fails: what cannot be understood is noted as `fault`, and everything understood before and after it is kept.

    Attributes:
        fault: First thing that was wrong, one line, or "".
        done: Whether `[DONE]` came.
        finish_reason: As the server gave it, or "".
        prompt_tokens: From usage, or -1; so are the next two.
        completion_tokens: Output tokens.
        cached_tokens: Prompt tokens found in the prefix cache.
        counted: Whether tokens per chunk come from usage on every chunk.
        text: Pieces of output text, kept only when asked for.
    """

    __slots__ = (
        "_keep_text", "_last_total", "_seen_tokens", "cached_tokens", "completion_tokens", "counted", "done", "fault",
        "finish_reason", "prompt_tokens", "text",
    )  # fmt: skip

    def __init__(self, *, keep_text: bool = False) -> None:
        self.fault = ""
        self.done = False
        self.finish_reason = ""
        self.prompt_tokens = -1
        self.completion_tokens = -1
        self.cached_tokens = -1
        self.counted = False
        self.text: list[str] = []
        self._keep_text = keep_text
        self._last_total = 0
        self._seen_tokens = False

    def take(self, event: Event) -> int:
        """Read one event; returns the tokens it brought (1 for text whose tokens nobody counted)."""
        name, data = event
        if name not in _UNNAMED:
            if name == "error":
                self._note_fault("the server reported an error: " + error_text(data))
            return 0
        if data.startswith(b"[") and data.strip() == b"[DONE]":
            self.done = True
            return 0
        try:
            message = orjson.loads(data)
        except orjson.JSONDecodeError:
            return self._read_broken(data)
        if isinstance(message, dict) and not message.get("error"):
            return self._read_message(message)
        self._note_fault(
            "the server reported an error: " + error_text(data)
            if isinstance(message, dict)
            else f"an event that is no JSON object: {one_line(data)}"
        )
        return 0

    def take_like(self, total: int) -> int:
        """Read an event that differs from one read before only in its text and, if it counts them, in the tokens so far.

        Args:
            total: `completion_tokens` of its usage, or -1 if events of its kind carry none.
        """
        if total < 0:
            self.counted = False
            return 1
        self.completion_tokens = total
        tokens = max(total - self._last_total, 0) if self.counted else 1
        self._last_total = max(total, self._last_total)
        return tokens

    def _read_broken(self, data: bytes) -> int:
        """An event with broken characters, or no JSON at all."""
        message = _load(data)
        if isinstance(message, dict) and not message.get("error"):
            return self._read_message(message)
        self._note_fault(f"an event that is no JSON: {one_line(data)}")
        return 0

    def _read_message(self, message: dict[str, Any]) -> int:
        has_text = False
        choices = message.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict) and self._read_choice(choice):
                    has_text = True
        elif self._read_text(message.get("text_output")):
            has_text = True
        usage = message.get("usage")
        if isinstance(usage, dict):
            return self._count_by_usage(usage, has_text=has_text, has_choices=bool(choices))
        if has_text:
            # Without usage on this chunk the totals cannot be told apart any more.
            self.counted = False
            self._seen_tokens = True
            return 1
        return 0

    def _count_by_usage(self, usage: dict[str, Any], *, has_text: bool, has_choices: bool) -> int:
        """Tokens of a chunk that carries usage, by the growth of the total where every chunk carries it."""
        total = self._read_usage(usage)
        tokens = int(has_text)
        if has_choices and total >= 0:
            if not self._seen_tokens and (has_text or total > 0):
                self.counted = True
            if self.counted:
                tokens = max(total - self._last_total, 0)
            self._last_total = max(total, self._last_total)
        if tokens:
            self._seen_tokens = True
        return tokens

    def _read_choice(self, choice: dict[str, Any]) -> bool:
        reason = choice.get("finish_reason")
        if reason and isinstance(reason, str):
            self.finish_reason = reason[:40]
        delta = choice.get("delta")
        if delta is None:
            text = choice.get("text")
            return (self._read_text(text) if text else False) or bool(choice.get("token_ids"))
        if not isinstance(delta, dict):
            return False
        found = self._read_text(delta.get("content"))
        for field in _REASONING_FIELDS:
            if field in delta and self._read_text(delta[field]):
                found = True
        return found or bool(delta.get("tool_calls"))

    def _read_text(self, text: Any) -> bool:
        if not isinstance(text, str) or not text:
            return False
        if self._keep_text:
            self.text.append(text)
        return True

    def _read_usage(self, usage: dict[str, Any]) -> int:
        self.prompt_tokens = _count(usage.get("prompt_tokens"), self.prompt_tokens)
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):
            self.cached_tokens = _count(details.get("cached_tokens"), self.cached_tokens)
        total = _count(usage.get("completion_tokens"), -1)
        if total >= 0:
            self.completion_tokens = total
        return total

    def _note_fault(self, text: str) -> None:
        self.fault = self.fault or text


def error_text(body: bytes) -> str:
    """The message in an error body, whatever the server's shape for it, as one line."""
    found: Any = _load(body)
    for _ in range(3):
        if not isinstance(found, dict):
            break
        found = next((found[key] for key in ("error", "message", "detail", "msg") if found.get(key)), None)
        if isinstance(found, list) and found:
            found = found[0]
    return one_line(found if isinstance(found, str) else body)


def one_line(text: str | bytes) -> str:
    """A text from a server as one printable line of bounded length."""
    if isinstance(text, bytes):
        text = text[: MAX_TEXT_CHARS * 4].decode("utf-8", "replace")
    cleaned = " ".join("".join(char if char.isprintable() else " " for char in text[: MAX_TEXT_CHARS * 2]).split())
    return cleaned if len(cleaned) <= MAX_TEXT_CHARS else cleaned[: MAX_TEXT_CHARS - 1] + "…"


def _load(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass_through = data.decode("utf-8", "replace")
    # Half characters of a cut token reach the wire in some servers; the rest of the event is good.
    try:
        return orjson.loads(pass_through)
    except orjson.JSONDecodeError:
        return None


def _count(value: Any, default: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31:
        return value
    return default
