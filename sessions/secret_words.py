"""Finds what looks like a secret in text, to take it out before a session is handed on.

Secrets never enter a session by intent; a server's log line or an operator's note can still hold one.
"""

from __future__ import annotations

import re

REMOVED = "[secret removed]"

_NAMES = r"(?:api[_-]?key|access[_-]?token|auth[_-]?token|hf[_-]?token|secret|passwd|password)"
_VALUE = r"(?P<value>[^\s\"'\\,;(){}\[\]]{6,})"
_PATTERNS = {
    "NVIDIA API key": r"\bnvapi-[A-Za-z0-9_-]{20,}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{20,}",
    "OpenAI-style key": r"\bsk-(?:[a-z]+-)*[A-Za-z0-9_-]{20,}",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    "AWS key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "Google API key": r"\bAIza[A-Za-z0-9_-]{35}",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^\"]*?(?:-----END [A-Z ]*PRIVATE KEY-----|(?=\")|$)",
    "bearer token": r"(?<=[Bb]earer )[A-Za-z0-9._~+/-]{12,}=*",
    "password in a URL": r"(?<=://)[^/\s:@\"']+:[^/\s@\"']+(?=@)",
    "secret given by name": rf"{_NAMES}\\?[\"']?\s*[=:]\s*(?:\[?\\?[\"'])?{_VALUE}",
    "secret given by name as an option": rf"--[\w-]*{_NAMES}(?:\\?[\"'],\s*\\?[\"']|\s+){_VALUE}",
}
_COMPILED = {name: re.compile(pattern, re.IGNORECASE if "name" in name else 0) for name, pattern in _PATTERNS.items()}
_HINT = re.compile(
    r"nvapi-|hf_|sk-|gh[pousr]_|github_pat|AKIA|ASIA|AIza|xox|eyJ|PRIVATE KEY|earer |://|key|token|secret|passw",
    re.IGNORECASE,
)


def without_secrets(text: str, values: tuple[str, ...] = ()) -> tuple[str, list[str]]:
    """A text without what looks like a secret.

    Args:
        text: Any text, JSON included: what is taken out never holds a quote, so JSON stays JSON.
        values: Secrets known by their value, such as that of an environment variable.

    Returns:
        The text, and the names of the kinds of secret found.
    """
    found = []
    for value in values:
        if value and value in text:
            text = text.replace(value, REMOVED)
            found.append("known secret")
    if not _HINT.search(text):
        return text, found
    for name, pattern in _COMPILED.items():
        text, count = pattern.subn(_cut, text)
        if count:
            found.append(name)
    return text, found


def _cut(match: re.Match[str]) -> str:
    if "value" not in match.re.groupindex:
        return REMOVED
    start = match.start("value") - match.start()
    return match[0][:start] + REMOVED
