"""A session as a picture: the verdict, the winner's figures and four charts, for a pull request or a chat.

Drawn from the same charts as the page. `resvg` (the extra `[report]`) turns the SVG into PNG; it needs no browser.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sessions.report import figures
from sessions.report.charts import draw
from sessions.report.markup import Element, add, raw, tag, xml
from sessions.report.outcome import cards, outcome, title, when

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessions.report.charts import Chart
    from sessions.report.facts import Facts

WIDTH, HEIGHT = 1200, 860
SCALE = 2.0
"""Pixels of the picture for each of the drawing: sharp on dense screens."""

FONTS = "DejaVu Sans, Liberation Sans, Noto Sans, Arial, Helvetica, sans-serif"
FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts", "/System/Library/Fonts",
                "C:/Windows/Fonts")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours by what they are for, and those of the series by their ink."""

    colours: Mapping[str, str]
    inks: tuple[str, ...]


LIGHT = Theme({
    "bg": "#ffffff", "card": "#f6f7f9", "text": "#16191d", "dim": "#545c66", "rule": "#d5dae0", "band": "#e9edf2",
    "strong": "#dcebc9", "good": "#2f6b00", "bad": "#b3261e", "warn": "#8a5a00",
}, ("#3d7a00", "#1f5fbf", "#b35900", "#8a3ab9", "#00727f", "#6b6f00", "#b3261e", "#6a737d"))  # fmt: skip
DARK = Theme({
    "bg": "#12151a", "card": "#1b2027", "text": "#e7eaee", "dim": "#a3acb8", "rule": "#343c47", "band": "#1e242c",
    "strong": "#25341a", "good": "#93d14f", "bad": "#ff8a80", "warn": "#ffcf66",
}, ("#8fd14f", "#7fb0ff", "#ffab5e", "#d59bf6", "#5fd0dc", "#d2d45e", "#ff8a80", "#98a2ae"))  # fmt: skip
"""The colours of `page.css`; a picture has no variables."""


class MissingRenderer(Exception):
    """What draws pictures is not here; the text says what is missing."""


def report_picture(facts: Facts, *, dark: bool = False) -> bytes:
    """The picture as PNG.

    Raises:
        MissingRenderer: If `resvg` or every font is missing.
    """
    try:
        import resvg_py
    except ImportError as error:
        raise MissingRenderer("a picture needs the package resvg-py") from error
    if not any(_has_font(Path(folder).expanduser()) for folder in FONT_FOLDERS):
        raise MissingRenderer(
            "a picture needs a font, and this host has none (Debian: apt install fonts-dejavu-core), and"
        )
    return bytes(resvg_py.svg_to_bytes(svg_string=report_svg(facts, dark=dark), width=int(WIDTH * SCALE)))


def report_svg(facts: Facts, *, dark: bool = False) -> str:
    """The picture as SVG."""
    theme = DARK if dark else LIGHT
    svg = tag("svg", xmlns="http://www.w3.org/2000/svg", width=WIDTH, height=HEIGHT, viewBox=f"0 0 {WIDTH} {HEIGHT}")
    add(svg, raw("style", _style(theme)), tag("rect", width=WIDTH, height=HEIGHT, class_="bg"))
    add(svg, tag("text", title(facts), x=36, y=48, class_="title"))
    add(svg, tag("text", f"{facts.name}, {when(facts)}", x=36, y=74, class_="sub"))
    told = outcome(facts)
    y = 104
    if facts.simulated:
        add(svg, tag("text", "SIMULATED: no number here was measured on a GPU", x=36, y=y, class_="warn"))
        y += 26
    for line in textwrap.wrap(told.headline, 62)[:2]:
        y += 24
        add(svg, tag("text", line, x=36, y=y, class_=f"headline {told.tone}"))
        y += 14
    for line in [each for text in told.lines for each in textwrap.wrap(text, 130)][:3]:
        y += 18
        add(svg, tag("text", line, x=36, y=y, class_="sub"))
    _add_cards(svg, facts, y + 22)
    _add_charts(svg, facts, y + 110)
    return xml(svg)


def _add_cards(svg: Element, facts: Facts, y: float) -> None:
    shown = cards(facts)[:6]
    width = (WIDTH - 72 - 12 * (len(shown) - 1)) / max(len(shown), 1)
    for place, card in enumerate(shown):
        x = 36 + place * (width + 12)
        add(svg, tag("rect", x=x, y=y, width=width, height=70.0, rx=8.0, class_="card"))
        add(svg, tag("text", card.name, x=x + 12, y=y + 20, class_="small"))
        add(svg, tag("text", card.value, x=x + 12, y=y + 43, class_="value"))
        below = " · ".join(part for part in (f"was {card.was}" if card.was else "", card.slo) if part)
        style = "small" if card.met is not False else "small bad"
        add(svg, tag("text", below, x=x + 12, y=y + 61, class_=style))


def _add_charts(svg: Element, facts: Facts, top: float) -> None:
    found = [*figures.load_charts(facts)[:2], figures.pareto_chart(facts), figures.history_chart(facts)]
    charts: list[Chart] = [chart for chart in found if chart is not None][:4]
    height = (HEIGHT - top - 16) / 2 - 26
    for place, chart in enumerate(charts):
        x, y = 36 + (place % 2) * 572, top + (place // 2) * (height + 28)
        add(svg, tag("text", chart.title, x=x, y=y + 12, class_="heading"))
        names = [series.name for series in chart.series if series.name]
        if len(names) > 1:
            for nth, series in enumerate(chart.series):
                before = sum(len(name) for name in names[:nth])
                at = x + 24 + len(chart.title) * 8.6 + nth * 26 + before * 6.4
                add(svg, tag("circle", cx=at, cy=y + 8, r=4.0, class_=f"dot s{series.ink}"))
                add(svg, tag("text", series.name, x=at + 8, y=y + 12, class_="small"))
        drawn = draw(chart, 556, round(height / chart.height))
        for name in ("tabindex", "data-points", "role", "aria-label", "xmlns"):
            drawn.attrib.pop(name, None)
        drawn.set("x", f"{x:g}")
        drawn.set("y", f"{y + 20:g}")
        drawn.set("width", "556")
        drawn.set("height", f"{height:g}")
        add(svg, drawn)


def _style(theme: Theme) -> str:
    """Classes with their colours; simple selectors only, which every renderer knows."""
    colours, inks = theme.colours, theme.inks
    lines = [
        f"text {{ font-family: {FONTS}; font-size: 11px; fill: {colours['dim']}; }}",
        f".bg {{ fill: {colours['bg']}; }} .card {{ fill: {colours['card']}; }}",
        f".title {{ font-size: 24px; font-weight: bold; fill: {colours['text']}; }}",
        f".headline {{ font-size: 30px; font-weight: bold; fill: {colours['text']}; }}",
        f".good {{ fill: {colours['good']}; }} .bad {{ fill: {colours['bad']}; }}",
        f".warn {{ font-size: 15px; font-weight: bold; fill: {colours['warn']}; }}",
        f".sub {{ font-size: 14px; }} .small {{ font-size: 12px; }} .label {{ fill: {colours['text']}; }}",
        f".value {{ font-size: 19px; font-weight: bold; fill: {colours['text']}; }}",
        f".heading {{ font-size: 14px; font-weight: bold; fill: {colours['text']}; }}",
        f".grid {{ stroke: {colours['rule']}; }} .axis {{ stroke: {colours['dim']}; }}",
        f".limit {{ stroke: {inks[6]}; stroke-dasharray: 6 4; }} text.limit {{ stroke: none; fill: {colours['bad']}; }}",
        f".band {{ fill: {colours['band']}; }} .strong {{ fill: {colours['strong']}; }} text.band {{ fill: {colours['dim']}; }}",
        ".line { fill: none; stroke-width: 2; } .dashed { stroke-dasharray: 5 4; } .area { opacity: 0.18; }",
        ".cross { fill: none; stroke-width: 2; } .whisker { stroke-width: 1.5; }",
        *(f".line.s{place}, .whisker.s{place}, .cross.s{place} {{ stroke: {ink}; }}" for place, ink in enumerate(inks)),
        *(f".dot.s{place}, .area.s{place} {{ fill: {ink}; }}" for place, ink in enumerate(inks)),
    ]
    return "\n".join(lines)


def _has_font(folder: Path) -> bool:
    return folder.is_dir() and any(path.suffix.lower() in (".ttf", ".otf", ".ttc") for path in folder.rglob("*"))
