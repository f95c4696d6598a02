"""Triton's `config.pbtxt`: protobuf's text format as plain values, read and written.

The result has the shape of `GET /v2/models/{m}/config`: lists for repeated fields, one object for `parameters`. What is
written is in the text format's flow style, which is valid YAML as well.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from engines.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*                                   # blanks and comments
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<word>[A-Za-z_][\w.]*)
    |(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?)
    |(?P<mark>[{}\[\]<>:,;])""",
    re.VERBOSE,
)
_REPEATED = frozenset({"input", "output", "instance_group", "dims", "gpus", "preferred_batch_size", "step", "profile"})
_MAPS = frozenset({"parameters", "input_map", "output_map", "cc_model_filenames", "metric_tags"})
_DEPTH = 32


class Word(str):
    """A name without quotes: an enum's value such as `KIND_CPU`."""

    __slots__ = ()


def parse_pbtxt(text: str, where: str) -> dict[str, Any]:
    """Read a `config.pbtxt`.

    Raises:
        BadConfiguration: If it is not protobuf's text format.
    """
    return _Reader(text, where).message(closing="", depth=0)


class _Reader:
    """Walks over the tokens of one text."""

    def __init__(self, text: str, where: str) -> None:
        self._where = where
        self._tokens: list[tuple[str, str, int]] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._wrong(position, text)
            if match.lastgroup is not None:
                self._tokens.append((match.lastgroup, match.group(), position))
            position = match.end()
        self._text = text
        self._next = 0

    def _wrong(self, position: int, text: str) -> BadConfiguration:
        line = text.count("\n", 0, position) + 1
        return BadConfiguration(f"{self._where} line {line} is not protobuf's text format")

    def _peek(self) -> str:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else ""

    def _take(self) -> tuple[str, str, int]:
        if self._next == len(self._tokens):
            raise self._wrong(len(self._text), self._text)
        self._next += 1
        return self._tokens[self._next - 1]

    def message(self, closing: str, depth: int) -> dict[str, Any]:
        """Read fields up to a closing mark, or to the end."""
        fields: dict[str, Any] = {}
        while (upcoming := self._peek()) != closing:
            kind, name, position = self._take()
            if kind == "mark" and name in ",;" and fields:
                continue
            if kind != "word" or depth > _DEPTH or not upcoming:
                raise self._wrong(position, self._text)
            if self._peek() == ":":
                self._take()
            self._add(fields, name, self._value(depth))
        if closing:
            self._take()
        return fields

    def _add(self, fields: dict[str, Any], name: str, value: Any) -> None:
        values = value if isinstance(value, list) else [value]
        if name in _MAPS:
            entries = fields.setdefault(name, {})
            for entry in values:
                if not isinstance(entry, dict) or "key" not in entry:
                    raise BadConfiguration(f"{self._where}: an entry of {name} has no key")
                entries[str(entry["key"])] = entry.get("value", {})
        elif name in _REPEATED:
            fields.setdefault(name, []).extend(values)
        else:
            fields[name] = value

    def _value(self, depth: int) -> Any:
        kind, piece, position = self._take()
        if piece in ("{", "<") and kind == "mark":
            return self.message("}" if piece == "{" else ">", depth + 1)
        if piece == "[" and kind == "mark":
            return self._list(depth)
        if kind == "string":
            return self._string(piece)
        if kind == "number":
            return float(piece.rstrip("fF")) if re.search(r"[.eEfF]", piece) else int(piece)
        if kind == "word":
            return {"true": True, "false": False}.get(piece, Word(piece))
        raise self._wrong(position, self._text)

    def _list(self, depth: int) -> list[Any]:
        values: list[Any] = []
        while self._peek() != "]":
            if self._peek() == ",":
                self._take()
                continue
            if depth > _DEPTH:
                raise self._wrong(self._tokens[self._next][2], self._text)
            values.append(self._value(depth + 1))
        self._take()
        return values

    def _string(self, piece: str) -> str:
        parts = [_unquoted(piece)]
        while self._next < len(self._tokens) and self._tokens[self._next][0] == "string":
            parts.append(_unquoted(self._take()[1]))
        return "".join(parts)


def _unquoted(piece: str) -> str:
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r"\\(.)", lambda match: escapes.get(match[1], match[1]), piece[1:-1], flags=re.DOTALL)


def dump_pbtxt(config: Mapping[str, Any]) -> str:
    """Write a `config.pbtxt`, a field to the line."""
    return "".join(f"{name}: {_dumped(name, value)}\n" for name, value in config.items())


def _dumped(name: str, value: Any) -> str:
    if name in _MAPS and isinstance(value, dict):
        return _list_text([{"key": key, "value": entry} for key, entry in value.items()])
    if isinstance(value, dict):
        return "{" + ", ".join(f"{field}: {_dumped(field, part)}" for field, part in value.items()) + "}"
    if isinstance(value, list):
        return _list_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Word) or not isinstance(value, str):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _list_text(values: list[Any]) -> str:
    return "[" + ", ".join(_dumped("", value) for value in values) + "]"
