"""Takes out of a session what says where it was made: host names, addresses, users' home folders, serial numbers of GPUs.

The same name becomes the same stand-in everywhere, so that two GPUs of one host still are two GPUs of one host.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sessions import rows
from sessions.errors import DamagedData

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

KEPT_HOSTS = frozenset({"", "localhost", "127.0.0.1", "0.0.0.0", "::1", "simulated", "host.docker.internal"})  # noqa: S104
"""Hosts that say nothing."""

_ADDRESS = re.compile(
    r"(?<![\d.])(?!127\.|0\.0\.0\.0)(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"
    r"|(?<![\w:.])(?=[0-9A-Fa-f:]*:[0-9A-Fa-f]*:)[0-9A-Fa-f:]{3,39}(?![\w:])"
)
"""IPv4, and what may be IPv6 or the address of a network card: times of day look like it too."""

_CARD = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")

_HOME = re.compile(r"(?:(?<=/home/)|(?<=/Users/))[^/\s\"':,]+")
_UUID = re.compile(r"\b(?:GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE)


class Anonymiser:
    """Exchanges names for stand-ins."""

    def __init__(self, hosts: Iterable[str]) -> None:
        known = sorted(
            {host for host in hosts if host.lower() not in KEPT_HOSTS and len(host) > 1}, key=len, reverse=True
        )
        self._stand_ins: dict[tuple[str, str], str] = {}
        words = "|".join(re.escape(host) for host in known)
        self._hosts = re.compile(rf"(?<![\w-])(?:{words})(?![\w-])") if words else None

    def __call__(self, text: str) -> str:
        """A text without them."""
        if self._hosts is not None:
            text = self._hosts.sub(lambda match: self._stand_in("host", match[0]), text)
        text = _ADDRESS.sub(lambda match: self._without_address(match[0]), text)
        text = _UUID.sub(lambda match: self._stand_in("GPU", match[0]), text)
        return _HOME.sub("user", text)

    def _without_address(self, told: str) -> str:
        if ":" not in told or _CARD.fullmatch(told):
            return self._stand_in("host", told)
        try:
            address = IPv6Address(told)
        except ValueError:
            return told
        kept = address.is_loopback or address.is_unspecified
        return told if kept else self._stand_in("host", told)

    def _stand_in(self, kind: str, name: str) -> str:
        known = self._stand_ins
        number = sum(each == kind for each, _ in known) + 1
        return known.setdefault((kind, name), f"{kind}-{number}")


def hosts_of(connection: sqlite3.Connection) -> Iterator[str]:
    """The hosts that a session names: where its worker ran, where its GPUs are, whom it asked."""
    for (host,) in connection.execute("SELECT host FROM worker"):
        yield str(host)
    texts = [str(row[0]) for row in connection.execute("SELECT value FROM meta UNION ALL SELECT info FROM source")]
    for text in texts:
        try:
            yield from _named_hosts(rows.json_of(text))
        except DamagedData:
            continue


def _named_hosts(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        if name == "host" and isinstance(value.get("name"), str):
            yield value["name"]
        for key, each in value.items():
            yield from _named_hosts(each, str(key))
    elif isinstance(value, list):
        for each in value:
            yield from _named_hosts(each, name)
    elif isinstance(value, str):
        if name in ("host", "hostname", "node"):
            yield value
        for url in _URL.findall(value):
            try:
                yield urlsplit(url).hostname or ""
            except ValueError:
                continue
