"""What the parts of the screen tell each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from tui.snapshot import Snapshot


class SnapshotReady(Message):
    """A new snapshot was built; only the newest in the queue counts."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        super().__init__()

    def can_replace(self, message: Message) -> bool:
        """A newer snapshot takes the place of one not yet handled."""
        return isinstance(message, SnapshotReady)


class FeedFailed(Message):
    """The session cannot be read; the last snapshot is no longer of now.

    Args:
        text: One line: what, where, what to do.
        since_s: How long it has been so.
    """

    def __init__(self, text: str, since_s: float) -> None:
        self.text = text
        self.since_s = since_s
        super().__init__()

    def can_replace(self, message: Message) -> bool:
        """A newer failure takes the place of one not yet handled."""
        return isinstance(message, FeedFailed)


class CommandSent(Message):
    """A command was appended to the session, or could not be."""

    def __init__(self, kind: str, identity: int | None, error: str) -> None:
        self.kind = kind
        self.identity = identity
        self.error = error
        super().__init__()
