"""Prompts and traffic from files: ShareGPT conversations, JSON lines, Mooncake traces.

Files are read from this host only, are bounded in size, and are data: a malformed line is named, not guessed at.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from tuner.load.errors import BadWorkload
from tuner.load.lengths import MAX_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuner.load.spec import Dataset

MAX_FILE_BYTES = 4 * 1024 * 1024 * 1024
MAX_ENTRIES = 2_000_000
_USER_NAMES = ("human", "user")
_ASSISTANT_NAMES = ("gpt", "assistant", "chatgpt", "bing", "bard")


@dataclass(frozen=True, slots=True)
class Entry:
    """One conversation, or one request of a trace.

    Attributes:
        asks: What the user says, turn by turn; empty in traces.
        answers: What was answered in the file, for planned histories.
        osl_tokens: Answer lengths by turn; 0 where the file has none.
        timestamp_s: When it arrived, in traces.
        isl_tokens: Prompt length, in traces.
        hash_ids: Blocks the prompt is made of, in traces.
        extra: More fields of the request body.
    """

    asks: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    osl_tokens: tuple[int, ...] = (0,)
    timestamp_s: float = 0.0
    isl_tokens: int = 0
    hash_ids: tuple[int, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def turns(self) -> int:
        """Requests in this conversation."""
        return len(self.osl_tokens)


def read_dataset(dataset: Dataset, seed: int) -> tuple[Entry, ...]:
    """Every usable entry of a file, in the file's order or shuffled by the seed.

    Entries without a user's turn (ShareGPT has some) are left out.

    Raises:
        BadWorkload: If the file cannot be read, is malformed, or has no usable entry.
    """
    entries = _READERS[dataset.format](dataset)
    if not entries:
        raise BadWorkload(f"dataset {dataset.path}: no usable entry in it")
    if dataset.shuffle and dataset.format != "mooncake":
        order = np.random.default_rng([0xDA7A, seed]).permutation(len(entries))
        entries = [entries[place] for place in order]
    return tuple(entries)


def _read_sharegpt(dataset: Dataset) -> list[Entry]:
    content = _parse(_read(dataset), f"dataset {dataset.path}")
    if not isinstance(content, list):
        raise BadWorkload(f"dataset {dataset.path}: a JSON list of conversations is needed")
    found = []
    for place, item in enumerate(content[:MAX_ENTRIES]):
        talk = item.get("conversations", item.get("conversation")) if isinstance(item, dict) else None
        if not isinstance(talk, list):
            raise BadWorkload(f"dataset {dataset.path}: entry {place} has no list 'conversations'")
        said = [
            (turn.get("from", turn.get("role")), turn.get("value", turn.get("content")))
            for turn in talk
            if isinstance(turn, dict)
        ]
        entry = _conversation([(name, text) for name, text in said if isinstance(text, str) and text])
        if entry is not None:
            found.append(entry)
    return found


def _read_jsonl(dataset: Dataset) -> list[Entry]:
    found = []
    for where, item in _lines(dataset):
        length = item.get("output_tokens", item.get("max_tokens", item.get("output_length", 0)))
        if isinstance(length, bool) or not isinstance(length, int) or not 0 <= length <= MAX_TOKENS:
            raise BadWorkload(f"{where}: output_tokens must be a whole number from 0 to {MAX_TOKENS}")
        extra = item.get("extra", {})
        if not isinstance(extra, dict):
            raise BadWorkload(f"{where}: extra must be an object")
        prompt = item.get("prompt", item.get("text", item.get("text_input")))
        if isinstance(prompt, str) and prompt:
            found.append(Entry(asks=(prompt,), osl_tokens=(length,), extra=extra))
            continue
        messages = item.get("messages")
        if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
            raise BadWorkload(f"{where}: a text 'prompt' or a list 'messages' is needed")
        text = messages[-1].get("content")
        if not isinstance(text, str) or not text:
            raise BadWorkload(f"{where}: the last message needs a text 'content'")
        # The whole list is sent as it stands, system message included.
        found.append(Entry(asks=(text,), osl_tokens=(length,), extra={"messages": messages, **extra}))
    return found


def _read_mooncake(dataset: Dataset) -> list[Entry]:
    found = []
    for where, item in _lines(dataset):
        stamp, isl_tokens, osl_tokens = (item.get(key) for key in ("timestamp", "input_length", "output_length"))
        hash_ids = item.get("hash_ids", [])
        if (
            not isinstance(stamp, int | float)
            or not (isinstance(isl_tokens, int) and 0 < isl_tokens <= MAX_TOKENS)
            or not (isinstance(osl_tokens, int) and 0 < osl_tokens <= MAX_TOKENS)
            or not isinstance(hash_ids, list)
            or not all(isinstance(value, int) and 0 <= value < 1 << 63 for value in hash_ids)
        ):
            raise BadWorkload(f"{where}: timestamp (ms), input_length, output_length and whole hash_ids are needed")
        found.append(
            Entry(osl_tokens=(osl_tokens,), timestamp_s=stamp / 1000, isl_tokens=isl_tokens, hash_ids=tuple(hash_ids))
        )
    return sorted(found, key=lambda entry: entry.timestamp_s)


_READERS: dict[str, Callable[[Dataset], list[Entry]]] = {
    "sharegpt": _read_sharegpt,
    "jsonl": _read_jsonl,
    "mooncake": _read_mooncake,
}


def _conversation(said: list[tuple[Any, str]]) -> Entry | None:
    """A conversation from its first user turn on; turns out of order end it."""
    while said and said[0][0] not in _USER_NAMES:
        said = said[1:]
    asks: list[str] = []
    answers: list[str] = []
    for name, text in said:
        if name in _USER_NAMES and len(asks) == len(answers):
            asks.append(text)
        elif name in _ASSISTANT_NAMES and len(asks) == len(answers) + 1:
            answers.append(text)
        else:
            break
    if not asks:
        return None
    return Entry(asks=tuple(asks), answers=tuple(answers), osl_tokens=(0,) * len(asks))


def _lines(dataset: Dataset) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for number, line in enumerate(_read(dataset).splitlines(), 1):
        if not line.strip():
            continue
        where = f"dataset {dataset.path}, line {number}"
        item = _parse(line, where)
        if not isinstance(item, dict):
            raise BadWorkload(f"{where}: a JSON object is needed")
        found.append((where, item))
        if len(found) >= MAX_ENTRIES:
            break
    return found


def _read(dataset: Dataset) -> bytes:
    try:
        if dataset.path.stat().st_size > MAX_FILE_BYTES:
            raise BadWorkload(f"dataset {dataset.path}: larger than {MAX_FILE_BYTES} bytes")
        return dataset.path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise BadWorkload(f"dataset {dataset.path}: {error.strerror}") from None


def _parse(data: bytes, where: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadWorkload(f"{where}: no JSON ({error.msg})") from None
