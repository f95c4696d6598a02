"""Log lines, drawn as rows: time, stream, level, text; matches of a search stand out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.formatting import clock_text, fit, shorten
from tui.widgets.lines import LineWidget, Piece, Row, title_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events

    from sessions.records import LogLine
    from tui.snapshot import Snapshot

LEVELS = ("debug", "info", "warning", "error")
STREAMS = ("all", "server", "worker", "load")
LEVEL_INKS = {"debug": "dim", "info": "", "warning": "warn", "error": "bad"}


class LogView(LineWidget):
    """The newest lines up to the moment; stays where it was scrolled to until it is scrolled back to the end."""

    def __init__(self) -> None:
        super().__init__()
        self._level = 1
        self._stream = 0
        self._needle = ""
        self._last_id: int | None = None
        """Id of the lowest line shown; None follows the end."""
        self._failure_id = 0

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """A heading that says what is shown, then the lines."""
        lines = self._wanted(snapshot)
        end = self._end(lines)
        shown = lines[max(0, end - (height - 1)) : end]
        failures = failure_lines(snapshot)
        rows: list[Row] = [self._heading(lines, end, width)]
        rows += [log_row(line, width, self._needle, failed=line.text in failures) for line in shown]
        if not lines:
            rows.append((("no line here: l shows more levels, s other streams", "dim"),))
        return rows

    def search(self, needle: str) -> None:
        """Highlight a text and show its newest occurrence; an empty text ends the search."""
        self._needle = needle.strip().lower()
        if self._needle:
            self.go_to_match(0)
        self._redraw()

    def go_to_match(self, step: int) -> bool:
        """Show the match below (1), above (-1) or nearest the end (0) of what is shown; whether there is one."""
        if self._snapshot is None or not self._needle:
            return False
        lines = self._wanted(self._snapshot)
        places = [place for place, line in enumerate(lines) if self._needle in line.text.lower()]
        here = self._end(lines) - 1
        if step > 0:
            found = next((place for place in places if place > here), None)
        else:
            found = next((place for place in reversed(places) if place < here or (step == 0 and place == here)), None)
        if found is None:
            return bool(places) and step == 0
        self._last_id = lines[found].id
        self._redraw()
        return True

    def go_to_failure(self) -> bool:
        """Show the newest line by which a trial failed, or the one before the last that was shown so."""
        if self._snapshot is None:
            return False
        lines = self._wanted(self._snapshot)
        told = failure_lines(self._snapshot)
        places = [place for place, line in enumerate(lines) if line.text in told]
        if not places:
            return False
        here = next((place for place in places if lines[place].id == self._failure_id), None)
        found = max((place for place in places if here is not None and place < here), default=places[-1])
        self._failure_id = self._last_id = lines[found].id
        self._redraw()
        return True

    def cycle_level(self) -> None:
        """Show lines from the next level on."""
        self._level = (self._level + 1) % len(LEVELS)
        self._redraw()

    def cycle_stream(self) -> None:
        """Show the next stream only."""
        self._stream = (self._stream + 1) % len(STREAMS)
        self._redraw()

    def scroll_lines(self, lines: int) -> None:
        """Move down by so many lines (up, if negative); at the end the view follows again."""
        if self._snapshot is None:
            return
        wanted = self._wanted(self._snapshot)
        end = self._end(wanted) + lines
        smallest = min(len(wanted), max(1, self.size.height - 1))
        self._last_id = None if end >= len(wanted) else wanted[max(smallest, end) - 1].id
        self._redraw()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Three lines down."""
        self.scroll_lines(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Three lines up."""
        self.scroll_lines(-3)

    def _wanted(self, snapshot: Snapshot) -> list[LogLine]:
        stream = STREAMS[self._stream]
        levels = LEVELS[self._level :]
        return [
            line
            for line in snapshot.logs
            if (line.level in levels or line.level not in LEVELS) and stream in ("all", line.stream)
        ]

    def _end(self, lines: list[LogLine]) -> int:
        if self._last_id is None:
            return len(lines)
        return next((place for place in range(len(lines), 0, -1) if lines[place - 1].id <= (self._last_id or 0)), 0)

    def _heading(self, lines: list[LogLine], end: int, width: int) -> Row:
        legend: list[Piece] = [(f"from {LEVELS[self._level]}", "dim"), (f"of {STREAMS[self._stream]}", "dim")]
        if self._needle:
            found = sum(self._needle in line.text.lower() for line in lines)
            legend.append((shorten(f"/{self._needle}: {found} found", max(10, width // 2)), "accent"))
        legend.append(("following" if self._last_id is None else f"{len(lines) - end} below", "dim"))
        return title_row("log", width, self.glyphs, *legend)


def failure_lines(snapshot: Snapshot) -> set[str]:
    """Lines of the server by which trials failed."""
    return {trial.failure.line for trial in snapshot.trials if trial.failure and trial.failure.line}


def log_row(line: LogLine, width: int, needle: str, *, failed: bool) -> Row:
    """One line of the log in one row."""
    ink = "bad" if failed else LEVEL_INKS.get(line.level, "")
    mark = "!" if failed else " "
    head = f"{mark}{clock_text(line.t_ns):>8} {fit(line.stream, 6)} "
    text = shorten(line.text, max(4, width - len(head)))
    pieces: list[Piece] = [(head, "bad" if failed else "dim")]
    place = text.lower().find(needle) if needle else -1
    # Lower case may change the length of a text; then the match is told by the row alone.
    if place < 0 or len(text.lower()) != len(text):
        pieces.append((text, ink))
    else:
        end = place + len(needle)
        pieces += [(text[:place], ink), (text[place:end], "badge"), (text[end:], ink)]
    return tuple(pieces)
