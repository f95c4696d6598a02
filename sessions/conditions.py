"""The conditions of a session by name: what its numbers were measured with and on."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from sessions.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sessions.reader import SessionReader

_FACTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("engine", ("engine", "title")),
    ("engine version", ("engine", "version")),
    ("model", ("engine", "model")),
    ("workload", ("workload", "label")),
    ("objective", ("objective", "label")),
    ("seed", ("plan", "workload", "seed")),
    ("image", ("plan", "engine", "container", "image")),
    ("launch", ("plan", "engine", "launch")),
    ("host", ("host", "name")),
    ("system", ("host", "system")),
    ("CPUs", ("host", "cpus")),
    ("Python", ("host", "python")),
    ("trtune", ("trtune_version",)),
)
"""Name, and where it stands in the session's facts."""


def conditions_of(reader: SessionReader, meta: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the numbers of a session were measured with and on: engine, model, GPUs, driver, host, versions.

    Args:
        reader: The session.
        meta: Its facts, when they were read already.
    """
    facts = reader.meta() if meta is None else meta
    found = {name: value for name, path in _FACTS if (value := _at(facts, path)) not in (None, "")}
    found |= dict(_gpus(reader))
    host = facts.get("host")
    packages = host.get("packages") if isinstance(host, dict) else None
    if isinstance(packages, dict):
        found |= {clean_line(str(name)): clean_line(str(version)) for name, version in packages.items()}
    return found


def _gpus(reader: SessionReader) -> Iterator[tuple[str, str]]:
    infos = [source.info for source in reader.sources("gpu")]
    names = Counter(str(info.get("name", "unknown")) for info in infos)
    if names:
        yield "GPUs", ", ".join(f"{count} × {name}" for name, count in names.items())
    drivers = {str(info["driver"]) for info in infos if info.get("driver")}
    if drivers:
        yield "driver", ", ".join(sorted(drivers))


def _at(facts: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        facts = facts.get(part) if isinstance(facts, dict) else None
    if isinstance(facts, str):
        return clean_line(facts)
    return facts if isinstance(facts, bool | int | float) else None
