"""Sample sessions, written once for all tests of the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sessions.reader import SessionReader
from tests.tui.sample_session import write_sample_session
from tests.tui.screen_helpers import revive, snapshot_of

if TYPE_CHECKING:
    from pathlib import Path

    from tui.snapshot import Snapshot


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished session: not to be written to."""
    return write_sample_session(tmp_path_factory.mktemp("sample") / "sample.trtune")


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A session whose worker is alive, and writes nothing more."""
    path = write_sample_session(tmp_path / "live.trtune", over=False)
    revive(path)
    return path


@pytest.fixture(scope="session")
def end_snapshot(sample: Path) -> Snapshot:
    """The sample at its end."""
    with SessionReader(sample) as reader:
        return snapshot_of(reader)


@pytest.fixture(scope="session")
def busy_snapshot(sample: Path) -> Snapshot:
    """The sample while trial 6 is measured at its highest level."""
    with SessionReader(sample) as reader:
        return snapshot_of(reader, at_s=258.0)
