"""Trials side by side (see `sessions.lanes`): which runs where, and whose samples are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessions.lanes import placements
from tui.harmless import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sessions.records import Event
    from tui.track import Track


def lanes_of(events: Iterable[Event]) -> Mapping[int, str]:
    """Trials by number with the lane they run on, as far as the session tells."""
    return {trial: lane for trial, place in placements(events).items() if (lane := text(place.lane))}


def track_of(tracks: Sequence[Track], lane: str | None) -> Track | None:
    """The track of a lane; where the lane is not known (None), the one that was sampled last."""
    if lane is None:
        return max(tracks, key=lambda track: -track.age_ns, default=None)
    return next((track for track in tracks if track.lane == lane), None)


def shown_gpus(tracks: Sequence[Track]) -> tuple[Track, ...]:
    """All GPUs, without those of lanes that are over while others are sampled."""
    fresh = any(not track.stale for track in tracks)
    return tuple(track for track in tracks if not (fresh and track.lane and track.stale))
