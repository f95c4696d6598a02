"""Tables of a report's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessions.report.markup import Element, tag

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

Cell = str | Element


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    name: str,
    *,
    numeric: Container[int] = (),
    texts: Container[int] = (),
    identity: str | None = None,
    sortable: bool = False,
    marked: Container[int] = (),
) -> Element:
    """A table that scrolls by itself where the page is narrow.

    Args:
        heads: Headings of the columns; none: the table has no head.
        rows: Cells; the first of a row names it.
        name: For those who cannot see it.
        numeric: Columns of numbers.
        texts: Columns of sentences, which need room.
        identity: Its id.
        sortable: Whether a click on a heading sorts.
        marked: Rows that stand out.
    """
    head = [_head(text, sortable=sortable, number=place in numeric) for place, text in enumerate(heads)]
    body = [
        tag("tr", *_cells(row, numeric, texts), class_="best" if place in marked else None)
        for place, row in enumerate(rows)
    ]
    made = tag(
        "table",
        tag("thead", tag("tr", *head)) if head else None,
        tag("tbody", *body),
        id=identity,
        class_="sortable" if sortable else None,
        aria_label=name,
    )
    return tag("div", made, class_="scroll", tabindex="0", role="region", aria_label=name)


def _head(text: str, *, sortable: bool, number: bool) -> Element:
    content = tag("button", text, type="button") if sortable else text
    return tag("th" if text else "td", content, scope="col" if text else None, class_="num" if number else None)


def _cells(row: Sequence[Cell], numeric: Container[int], texts: Container[int]) -> list[Element]:
    return [
        tag(
            "td" if place else "th",
            tag("div", cell, class_="text") if place in texts else cell,
            scope=None if place else "row",
            class_="num" if place in numeric else None,
        )
        for place, cell in enumerate(row)
    ]
