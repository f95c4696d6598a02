"""YAML for people: texts of several lines as blocks, nothing by reference, nothing that is empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class _Dumper(yaml.SafeDumper):
    """Writes what is the same twice twice, and texts of several lines as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def yaml_documents(parts: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> str:
    """Documents one after the other, with comment lines above them."""
    head = "".join(f"# {note}\n" for note in notes)
    filled = [_without_empty(part) for part in parts]
    return head + yaml.dump_all(filled, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=120)


def _without_empty(value: Any) -> Any:
    """A mapping without members that say nothing; volumes without options keep their empty ones."""
    if isinstance(value, dict):
        return {name: _without_empty(inner) for name, inner in value.items() if inner not in ([], {}, "")}
    return [_without_empty(inner) for inner in value] if isinstance(value, list) else value
