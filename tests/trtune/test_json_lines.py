"""What `--json` prints is what docs/screen.md says."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

from tests.trtune.conftest import objects
from trtune.follow import Follower

ROOT = Path(__file__).parents[2]


def documented() -> dict[str, set[str]]:
    """The fields of each event, from the table of the page; what stands in brackets are values."""
    page = (ROOT / "docs" / "screen.md").read_text().partition("## Without a screen")[2].partition("| exit status")[0]
    rows = [line.split("|")[1:4] for line in page.splitlines() if line.startswith("| `") and "`event`" not in line]
    return {
        event: set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", fields)))
        for events, _, fields in rows
        for event in re.findall(r"`(\w+)`", events)
    }


def test_every_line_has_the_fields_that_are_documented(tmp_path: Path) -> None:
    path = Path(shutil.copy(ROOT / "tests" / "data" / "demo.trtune", tmp_path / "demo.trtune"))
    printed = io.StringIO()

    Follower(path, json=True, out=printed).run()

    lines = objects(printed.getvalue())
    assert {"session", "begin", "level", "trial", "best", "result"} <= {line["event"] for line in lines}
    fields = documented()
    assert [line for line in lines if line.keys() - {"event"} != fields[str(line["event"])]] == []
