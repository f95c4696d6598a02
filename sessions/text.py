"""Makes text from servers and strangers harmless before it is stored or shown."""

from __future__ import annotations

import re
import unicodedata

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI sequences
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC sequences
    r"|\x1b[PX^_].*?(?:\x1b\\|$)"  # DCS, SOS, PM, APC strings
    r"|\x1b[ -/]*[0-~]?"  # everything else that begins with ESC
)
_HARMFUL_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def clean_line(text: str) -> str:
    r"""One line without escape sequences, control characters and bidirectional overrides.

    Escape sequences go away; a tab becomes a space; any other control character becomes `\ufffd`, so that its place
    shows.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPES.sub("", text.rstrip("\r\n")).replace("\t", " ")
    return "".join("\ufffd" if unicodedata.category(char) in _HARMFUL_CATEGORIES else char for char in text)


def clean_lines(text: str) -> str:
    """The same for a text of several lines, which stay apart."""
    return "\n".join(clean_line(line) for line in text.split("\n"))
