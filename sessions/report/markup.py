"""Elements of HTML and SVG as the standard library has them: every text and attribute is escaped when it is written."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from sessions.text import clean_line

Element = ElementTree.Element


def tag(name: str, *children: Element | str | None, **attributes: str | float | bool | None) -> Element:
    """An element with children and attributes.

    Args:
        name: Of the element.
        children: Elements and texts in order; None is left out. Texts lose their control characters.
        attributes: `class_` stands for `class`, and any other `_` for `-`; True is an attribute without a value, None and False
            leave it out.
    """
    element = ElementTree.Element(name)
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        text = "" if value is True else f"{value:g}" if isinstance(value, float) else str(value)
        element.set(key.rstrip("_").replace("_", "-"), clean_line(text))
    add(element, *children)
    return element


def add(element: Element, *children: Element | str | None) -> Element:
    """Append children; returns the element."""
    for child in children:
        if isinstance(child, Element):
            element.append(child)
        elif child is not None:
            _append_text(element, "\n".join(clean_line(line) for line in str(child).split("\n")))
    return element


def raw(name: str, text: str, **attributes: str) -> Element:
    """A `style` or `script` of our own, whose text HTML does not escape; never for text of a session."""
    element = ElementTree.Element(name, attributes)
    element.text = text
    return element


def html(element: Element) -> str:
    """The element as HTML."""
    return ElementTree.tostring(element, encoding="unicode", method="html")


def xml(element: Element) -> str:
    """The element as XML: a picture that stands alone."""
    return ElementTree.tostring(element, encoding="unicode", method="xml")


def _append_text(element: Element, text: str) -> None:
    if len(element):
        element[-1].tail = (element[-1].tail or "") + text
    else:
        element.text = (element.text or "") + text


def breakable(name: str) -> list[Element | str]:
    """A long name that a browser may part after `_`, `.` and `-`."""
    parts: list[Element | str] = []
    for part in re.findall(r"[^_.-]*[_.-]?", name):
        if part:
            parts += [part, ElementTree.Element("wbr")]
    return parts[:-1]
