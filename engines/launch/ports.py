"""TCP ports of servers that are about to be started."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from engines.errors import BadConfiguration, CannotStart, StartFailed
from engines.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LAST_PORT = 65535
_PORT_TRIES = 50
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""A name may stand for addresses of which this machine has some only: `localhost` where IPv6 is off."""

WILDCARD_HOSTS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104


def free_port(host: str = "127.0.0.1", beside: Sequence[int] = (0,)) -> int:
    """A TCP port nobody listens on at this moment, and nobody at the ports so far beside it either.

    Somebody else may take it before the server binds it; the launcher then says so.

    Args:
        host: Address to listen on.
        beside: Distances of all ports the server takes, such as `(0, 2)`.

    Raises:
        CannotStart: If the host is not one of this machine, or no such ports are found.
    """
    for _ in range(_PORT_TRIES):
        port = _any_port(host)
        if all(_is_free(host, port + distance) for distance in beside):
            return port
    text = f"no free ports on {host}: {_PORT_TRIES} were tried; end what holds them"
    raise CannotStart(Failure("port_in_use", text, infeasible=False))


def local_url(host: str, port: int) -> str:
    """Base URL at which a server that listens on this host and port answers us."""
    name = "127.0.0.1" if host in WILDCARD_HOSTS else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def split_url(url: str) -> tuple[str, int]:
    """Host and port of a base URL.

    Raises:
        BadConfiguration: If it is not an http(s) URL with a host.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise BadConfiguration(f"URL {url!r} is not valid: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadConfiguration(f"URL {url!r} is not valid; write it as http://HOST:PORT")
    return parts.hostname, port


def require_free(url: str) -> None:
    """Refuse a port that is taken: an old server there would answer for the new one.

    Raises:
        StartFailed: `port_in_use`, or `bad_address` when the host is not one of this machine.
    """
    host, port = split_url(url)
    elsewhere: OSError | None = None
    here = False
    for family, address in _addresses(host, port):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                # Servers bind with SO_REUSEADDR: connections in TIME_WAIT must not count as a listener.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            here = True
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise StartFailed(_port_failure(host, port, error)) from error
            elsewhere = error
    if elsewhere is not None and not here:
        raise StartFailed(_port_failure(host, port, elsewhere)) from elsewhere


def _any_port(host: str) -> int:
    """A port that the system picks, on the first address of the host that is one of this machine."""
    refused: OSError | None = None
    for family, address in _addresses(host, 0):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind(address)
                return int(probe.getsockname()[1])
        except OSError as error:
            refused = error
    failure = _port_failure(host, 0, refused or OSError(errno.EADDRNOTAVAIL, "it has no address"))
    raise CannotStart(failure) from refused


def _is_free(host: str, port: int) -> bool:
    if port > LAST_PORT:
        return False
    try:
        require_free(local_url(host, port))
    except StartFailed:
        return False
    return True


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    try:
        found: Iterable[tuple[socket.AddressFamily, int, int, str, tuple[object, ...]]]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        failure = Failure("bad_address", f"host {host!r} is unknown: {error.strerror}", infeasible=False)
        raise StartFailed(failure) from error
    return [(family, address) for family, _, _, _, address in found]


def _port_failure(host: str, port: int, error: OSError) -> Failure:
    if error.errno == errno.EACCES:
        text = f"this user may not listen on port {port}; choose one above 1023"
        return Failure("bad_address", text, infeasible=False)
    if error.errno == errno.EADDRINUSE:
        text = f"port {port} on {host} is in use; stop what listens there or choose another port"
        return Failure("port_in_use", text, infeasible=False)
    text = f"cannot listen on {host}:{port}: {error.strerror}; choose an address of this machine"
    return Failure("bad_address", text, infeasible=False)
