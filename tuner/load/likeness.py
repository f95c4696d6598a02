"""Events that differ only in their text and in how many tokens there are so far, as nearly all events of a stream do.

Such an event is recognised without parsing its JSON again: bytes equal to those of a parsed event everywhere but inside one
string and a few numbers mean the same but for these. Whatever does not match is parsed as usual.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tuner.load.answers import StreamedAnswer
from tuner.load.hotpath.answer import chunk_size

if TYPE_CHECKING:
    from tuner.load.sse import Event

MAX_TAILS = 64
"""Different endings of events kept for a level; a server that sends more gets its events parsed."""

MAX_LESSONS = 8
"""Events of one stream learned from without any having been recognised since."""

_HEAD = b"data: "
_END = b"\n\n\r\n"
_PROBE_TEXT, _PROBE_TOTAL = "trtune", 987_654_321

# Escapes of single characters are frequent in answers; those by number go the long way, since they can be wrong.
_TEXT = re.compile(rb'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])+')
_TEXT_KEY = re.compile(rb'"(?:text|content|reasoning_content|reasoning|text_output)": ?"')
_COUNTS = re.compile(rb'("(completion|prompt|total)_tokens": ?)\d+')
_TOTAL_PATTERN = {b"completion": rb"(\d{1,9})", b"prompt": rb"\d{1,9}", b"total": rb"\d{1,9}"}


class Tails:
    """The endings of events seen in a level, compiled; streams share them."""

    def __init__(self) -> None:
        self._known: dict[bytes, re.Pattern[bytes] | None] = {}

    def find(self, tail: bytes) -> re.Pattern[bytes] | None:
        """The pattern of an ending with any counts; its group, if it has one, is `completion_tokens`."""
        general = _COUNTS.sub(rb"\g<1>0", tail)
        if general not in self._known:
            if len(self._known) >= MAX_TAILS:
                return None
            self._known[general] = _compile(tail)
        return self._known[general]


def _compile(tail: bytes) -> re.Pattern[bytes] | None:
    """The pattern of an ending, or None where a count occurs twice."""
    names = [found[2] for found in _COUNTS.finditer(tail)]
    if len(names) != len(set(names)):
        return None
    pattern, at = b"", 0
    for found in _COUNTS.finditer(tail):
        pattern += re.escape(tail[at : found.end(1)]) + _TOTAL_PATTERN[found[2]]
        at = found.end()
    return re.compile(pattern + re.escape(tail[at:] + _END))


class Likeness:
    """Recognises the events of one stream that are like one parsed before."""

    __slots__ = ("_head", "_lessons", "_tail", "_tails")

    def __init__(self, tails: Tails) -> None:
        self._tails = tails
        self._head = b""
        self._tail: re.Pattern[bytes] | None = None
        self._lessons = 0

    @property
    def wants_lesson(self) -> bool:
        """Whether another event is worth learning from."""
        return self._lessons < MAX_LESSONS

    def learn(self, event: Event) -> None:
        """Learn from an event that brought text."""
        self._lessons += 1
        self._tail = None
        name, data = event
        keys = list(_TEXT_KEY.finditer(data))
        texts = [(key.end(), found.end()) for key in keys if (found := _TEXT.match(data, key.end()))]
        if name or len(texts) != 1 or b"\n" in data or b"\r" in data:
            return
        start, end = texts[0]
        if _means_the_same(data[:start], data[end:]):
            self._head = _HEAD + data[:start]
            self._tail = self._tails.find(data[end:])

    def take(self, answer: StreamedAnswer, body: bytes, at: int, tokens: list[int], ends: list[int]) -> int:
        """Read chunks that hold one known event each, as long as there are any.

        Args:
            answer: What takes note of them.
            body: Bytes of a chunked body.
            at: Where a chunk begins.
            tokens: Gets the tokens of every event that brought some,
            ends: and where the chunk ends.

        Returns:
            Where the first chunk begins that is of another kind, or not whole.
        """
        tail, head = self._tail, self._head
        if tail is None:
            return at
        first, skip = at, len(head)
        has_total = tail.groups > 0
        while True:
            line_end = body.find(b"\r\n", at, at + 10)
            start = line_end + 2
            if line_end < 0 or not body.startswith(head, start):
                break
            text = _TEXT.match(body, start + skip)
            found = tail.match(body, text.end()) if text else None
            if found is None or found.end() != start + chunk_size(body[at:line_end]) + 2:
                break
            at = found.end()
            count = answer.take_like(int(found[1]) if has_total else -1)
            if count:
                tokens.append(count)
                ends.append(at)
        if at > first:
            self._lessons = 0
        return at


def chunk_end(body: bytes, at: int) -> int:
    """Where the chunk that begins at a place ends, or the end of the body if it is not whole."""
    line_end = body.find(b"\r\n", at, at + 20)
    return min(line_end + 4 + max(chunk_size(body[at:line_end]), 0), len(body)) if line_end > 0 else len(body)


def _means_the_same(head: bytes, tail: bytes) -> bool:
    """Whether an event of these two parts with any text and any counts between means just that, and nothing more."""
    probe = StreamedAnswer(keep_text=True)
    counted = any(found[2] == b"completion" for found in _COUNTS.finditer(tail))
    tail = _COUNTS.sub(rb"\g<1>%d" % _PROBE_TOTAL, tail)
    tokens = probe.take(("", head + _PROBE_TEXT.encode() + tail))
    total = _PROBE_TOTAL if counted else -1
    return (
        tokens > 0
        and probe.text == [_PROBE_TEXT]
        and probe.completion_tokens == total
        and not (probe.fault or probe.finish_reason or probe.done)
        and not _COUNTS.search(head)
    )
