"""The page about plans is made from the program, and is the newest."""

from __future__ import annotations

from pathlib import Path

from trtune.plandoc import page


def test_the_page_about_plans_is_up_to_date() -> None:
    written = (Path(__file__).parents[2] / "docs" / "plan.md").read_text()

    assert written == page(), "run: python -m trtune.plandoc > docs/plan.md"
