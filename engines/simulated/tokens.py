"""Pretend tokens: lengths and prefixes of prompts, and words to answer with."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

_PIECE: Final = re.compile(r"\s?\S{1,5}|\s")
"""About one English token: up to five characters with the space before them."""

_WORDS: Final = (
    " the", " of", " and", " to", " in", " is", " that", " for", " it", " as", " was", " with", " be", " by", " on",
    " not", " he", " are", " or", " his", " from", " at", " which", " but", " have", " an", " had", " they", " you",
    " were", " their", " one", " all", " we", " can", " her", " has", " there", " been", " if", " more", " when",
    " will", " would", " who", " so", " no", ",", ".", " time", " model", " token", " server", " batch", " cache",
    " block", " memory", " step", " queue", " first", " next", " value", " point", " result",
)  # fmt: skip

WORDS: Final = _WORDS
"""Texts of the pretend vocabulary."""

ESCAPED_WORDS: Final[tuple[bytes, ...]] = tuple(orjson.dumps(word)[1:-1] for word in _WORDS)
"""The same, ready to stand inside a JSON string."""

_BOS: Final = 1


def word_index(request_id: int, position: int) -> int:
    """Return which word a request answers with at a position; the same every time."""
    return (request_id * 31 + position * 17 + (position >> 3)) % len(_WORDS)


def tokenize(text: str, add_special_tokens: bool) -> list[int]:
    """Return pretend token ids; equal prefixes give equal ids in every process."""
    ids = [zlib.crc32(piece.encode()) & 0x1FFFF for piece in _PIECE.findall(text)]
    return [_BOS, *ids] if add_special_tokens else ids


def render_chat(messages: Sequence[dict[str, Any]], add_generation_prompt: bool) -> str:
    """Return a conversation as the text a chat template would make of it."""
    lines = [f"<|{message.get('role', 'user')}|>\n{_content_text(message.get('content'))}\n" for message in messages]
    if add_generation_prompt:
        lines.append("<|assistant|>\n")
    return "".join(lines)


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""
