"""Trials side by side: which lane each runs on, and which sources sampled its own server and GPUs.

A trial that runs beside others has a lane, whose name stands before those of its sources (`lane1/engine`); the sources of the
first lane of a host have plain names. Trials on lanes of one host share its GPU sources: the event `placed` says which GPUs are
whose.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sessions.reader import SessionReader
    from sessions.records import Event, Source

PLACED = "placed"
"""Kind of the event that says where a trial runs."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a trial runs.

    Attributes:
        lane: Name of its lane; empty for the first one of a host.
        gpu_uuids: Its GPUs, where lanes share the GPU sources of a host; empty where they are not told.
    """

    lane: str = ""
    gpu_uuids: frozenset[str] = field(default_factory=frozenset)


def placements(events: Iterable[Event]) -> Mapping[int, Placement]:
    """Trials by number with their places, as far as the session tells; empty when none ran beside another."""
    return {event.trial: _placement(event) for event in events if event.kind == PLACED and event.trial is not None}


def own_sources(reader: SessionReader, kind: str, trial: int) -> tuple[Source, ...]:
    """The sources of a kind that sampled a trial's own server or GPUs; all where the session does not tell them apart."""
    sources = tuple(reader.sources(kind))
    placed = placements(reader.events())
    if not placed:
        return sources
    place = placed.get(trial, Placement())
    mine = tuple(source for source in sources if source.name.rpartition("/")[0] == place.lane)
    if kind != "gpu":
        return mine
    shared = mine or tuple(source for source in sources if "/" not in source.name)
    return tuple(source for source in shared if source.info.get("uuid") in place.gpu_uuids) or shared


def _placement(event: Event) -> Placement:
    lane, uuids = event.data.get("lane"), event.data.get("gpu_uuids")
    told = uuids if isinstance(uuids, list) else []
    return Placement(lane if isinstance(lane, str) else "", frozenset(each for each in told if isinstance(each, str)))
