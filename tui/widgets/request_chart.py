"""Requests as a waterfall, and the life of one of them."""

from __future__ import annotations

from statistics import quantiles
from typing import TYPE_CHECKING

from sessions.clock import NS_PER_S
from tui.canvas import Canvas, dots
from tui.formatting import clock_text, fit, fit_right, milliseconds, number, shorten, whole
from tui.plotting import AXIS_CELLS, nice_top
from tui.track import NAN
from tui.widgets.lines import Piece, Row, title_row, wrap

if TYPE_CHECKING:
    from sessions.records import LevelRecord
    from tui.glyphs import Glyphs
    from tui.request_lives import RequestLife, RequestLives
    from tui.snapshot import Snapshot

_HEAD = (("request", 8), ("sent", 9), ("ISL", 6), ("OSL", 6), ("TTFT", 8), ("TPOT", 8), ("E2E", 9))
DETAIL_ROWS = 12


def requests_rows(
    snapshot: Snapshot, level: LevelRecord, lives: RequestLives, cursor: int, size: tuple[int, int], glyphs: Glyphs
) -> list[Row]:
    """The waterfall around the cursor, and the chosen request below it.

    Args:
        snapshot: What is looked at.
        level: The level of the requests.
        lives: Its requests.
        cursor: Place of the chosen one.
        size: Cells across and down.
        glyphs: Characters to draw with.
    """
    width, height = size
    sign = "concurrency" if level.kind == "concurrency" else "req/s"
    failed = (f"{lives.failed} failed", "bad") if lives.failed else ("none failed", "dim")
    title = f"requests of trial {level.trial}, {sign} {level.value:g}"
    rows: list[Row] = [
        title_row(title, width, glyphs, (f"{len(lives)} in order of: {lives.order}", "dim"), failed, *_signs(glyphs))
    ]
    if not len(lives):
        return [*rows, (("no request of this level is recorded yet", "dim"),)]
    rows.append(((fit(" " + "".join(fit_right(word, cells) for word, cells in _HEAD) + "  ", width), "dim"),))
    room = max(3, height - len(rows) - DETAIL_ROWS)
    first = max(0, min(cursor - room // 2, len(lives) - room))
    shown = [lives.life(place) for place in range(first, min(len(lives), first + room))]
    start_ns, end_ns = min(life.scheduled_ns for life in shown), max(life.end_ns for life in shown)
    cells = max(8, width - 1 - sum(cells for _, cells in _HEAD) - 2)
    for place, life in enumerate(shown, first):
        rows.append(_waterfall_row(life, (start_ns, end_ns), cells, place == cursor, glyphs))
    return rows + life_rows(snapshot, lives.life(min(cursor, len(lives) - 1)), width, height - len(rows), glyphs)


def _signs(glyphs: Glyphs) -> tuple[Piece, ...]:
    full, half = glyphs.bar[-1], glyphs.hatch
    return ((f"{half} queue and prefill", "warn"), (f"{full} tokens", "ok"))


def _waterfall_row(life: RequestLife, window_ns: tuple[int, int], cells: int, chosen: bool, glyphs: Glyphs) -> Row:
    numbers = (
        str(life.index),
        clock_text(life.sent_ns),
        _count(life.isl_tokens),
        _count(life.osl_tokens),
        number(life.ttft_ms),
        number(life.tpot_ms),
        number(life.e2e_ms),
    )
    text = "".join(fit_right(told, width) for told, (_, width) in zip(numbers, _HEAD, strict=True))
    ok = life.status == "ok"
    head: Piece = (f"{'>' if chosen else ' '}{text}  ", "cursor" if chosen else "" if ok else "bad")
    return (head, *_bar(life, window_ns, cells, glyphs))


def _bar(life: RequestLife, window_ns: tuple[int, int], cells: int, glyphs: Glyphs) -> tuple[Piece, ...]:
    def cell(t_ns: int) -> int:
        return max(0, min(cells, round((t_ns - window_ns[0]) * cells / max(1, window_ns[1] - window_ns[0]))))

    sent, first = cell(life.sent_ns), cell(life.first_ns if life.first_ns is not None else life.end_ns)
    last = cell(life.last_ns if life.last_ns is not None else life.end_ns)
    late = cell(life.scheduled_ns)
    first = max(first, sent + 1)
    return (
        (" " * late + "." * (sent - late), "dim"),
        (glyphs.hatch * (first - sent), "warn" if life.status == "ok" else "bad"),
        (glyphs.bar[-1] * (max(first, last) - first), "ok"),
        ("" if life.status == "ok" else f" {life.status}", "bad"),
    )


def life_rows(snapshot: Snapshot, life: RequestLife, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """One request: what it spent its time on, and the gaps between its tokens."""
    rows: list[Row] = [
        title_row(f"request {life.index}", width, glyphs, (life.status, "ok" if life.status == "ok" else "bad"))
    ]
    for line in (_first_line(snapshot, life), _tokens_line(life)):
        rows += wrap(line, width)
    if life.error:
        rows += wrap((("error  ", "dim"), (life.error, "bad")), width)
    room = height - len(rows)
    if room >= 3 and len(life.gaps_ms) > 1:
        rows += _gap_plot(life, width, room, glyphs)
    return rows[: max(0, height)]


def _first_line(snapshot: Snapshot, life: RequestLife) -> Row:
    queue_ms = NAN if life.first_ns is None else _queue_ms(snapshot, life.first_ns)
    # A mean of others that is longer than all of this request's wait says nothing about it.
    told = life.ttft_ms is not None and queue_ms <= life.ttft_ms
    queue = f" (the server's queue then took about {milliseconds(queue_ms)})" if told else ""
    late_ms = (life.sent_ns - life.scheduled_ns) / 1e6
    late = f", {milliseconds(late_ms)} late" if late_ms > 1 else ""
    cached = f", {life.cached_tokens} of them cached" if life.cached_tokens else ""
    return (
        (f"sent {clock_text(life.sent_ns)}{late}  ", ""),
        (f"{_count(life.isl_tokens)} prompt tokens{cached}  ", "dim"),
        ("queue and prefill ", "dim"),
        (milliseconds(life.ttft_ms), "warn"),
        (queue, "dim"),
    )


def _tokens_line(life: RequestLife) -> Row:
    gaps = life.gaps_ms
    p50, p99 = _quantile(gaps, 50), _quantile(gaps, 99)
    most = max(gaps, default=NAN)
    clock = "kernel clock" if life.kernel_clock else "user clock"
    lag = f", first token read {number(life.lag_ms)} ms late" if life.lag_ms is not None else ""
    return (
        (f"{_count(life.osl_tokens)} tokens in {milliseconds(life.decode_ms)}  ", "ok"),
        (f"gaps p50 {number(p50)} p99 {number(p99)} max {number(most)} ms  ", ""),
        (f"E2E {milliseconds(life.e2e_ms)}  ", "strong"),
        (f"{clock}{lag}", "dim"),
    )


def _gap_plot(life: RequestLife, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The gap before each chunk, in their order; the highest of a column is drawn."""
    cells_x, cells_y = max(4, width - AXIS_CELLS), height
    canvas = Canvas(cells_x, cells_y, glyphs)
    layer = canvas.layer("second")
    top = nice_top(max(life.gaps_ms))
    columns = min(canvas.dots_x, max(len(life.gaps_ms), 1))
    for x in range(columns):
        inside = life.gaps_ms[x * len(life.gaps_ms) // columns : (x + 1) * len(life.gaps_ms) // columns]
        if inside:
            layer[x] |= dots(0, max(0, round(max(inside) / top * (canvas.dots_y - 1))))
    labels = {0: f"{top:g} ms" if top < 100 else f"{top:g}", cells_y - 1: "0"}
    return [((fit_right(labels.get(y, ""), AXIS_CELLS - 1) + " ", "dim"), *row) for y, row in enumerate(canvas.rows())]


def _queue_ms(snapshot: Snapshot, t_ns: int) -> float:
    """What the server said about its queue closest to a moment; NaN when it does not."""
    if snapshot.engine is None or snapshot.lane != snapshot.selected_lane:
        return NAN
    times_ns, values = snapshot.engine.series("queue_ms")
    near = [
        (abs(t - t_ns), value)
        for t, value in zip(times_ns, values, strict=True)
        if value == value and abs(t - t_ns) < 2 * NS_PER_S
    ]
    return min(near)[1] if near else NAN


def _quantile(values: tuple[float, ...], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else next(iter(values), NAN)


def _count(tokens: int | None) -> str:
    return shorten(whole(NAN if tokens is None else tokens), 6)
