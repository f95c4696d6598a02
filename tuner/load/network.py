"""Finding the server on the network, and what the generator processes are told about it."""

from __future__ import annotations

import socket
from math import ceil
from typing import TYPE_CHECKING

from tuner.load.errors import Unreachable
from tuner.load.hotpath.settings import Settings
from tuner.load.http_request import Address, parse_address

if TYPE_CHECKING:
    from tuner.load.job import LevelJob

OPEN_LOOP_RESERVE = 4
"""Idle connections an open-loop level keeps ready per process. Few: servers with a thread per connection are blocked
by idle ones."""

_REUSE = {True: 1, False: 0, None: -1}


def level_settings(job: LevelJob, processes: int) -> list[Settings]:
    """Settings of each generator process; the slots of a closed loop are shared out evenly.

    Raises:
        Unreachable: If the host has no address, or none of its addresses takes a connection.
    """
    address = parse_address(job.endpoint)
    family, host = _reach(address, job.limits.connect_timeout_s)
    closed_loop = job.level.kind == "concurrency"
    slots = int(job.level.value) if closed_loop else 0
    shares = [slots // processes + (place < slots % processes) for place in range(processes)]
    return [_settings(job, address, family, host, closed_loop=closed_loop, slots=share) for share in shares]


def _settings(job: LevelJob, address: Address, family: int, host: str, *, closed_loop: bool, slots: int) -> Settings:
    endpoint, limits = job.endpoint, job.limits
    settings = Settings()
    settings.family = family
    settings.host = host
    settings.port = address.port
    settings.tls = int(address.tls)
    settings.server_name = address.host
    settings.ca_file = endpoint.ca_file or ""
    settings.verify_tls = int(endpoint.verify_tls)
    settings.closed_loop = int(closed_loop)
    settings.concurrency = slots
    settings.ramp_ns = ceil(job.workload.arrivals.ramp_s * 1e9) if closed_loop else 0
    settings.reuse = _REUSE[endpoint.reuse_connections]
    settings.reserve = OPEN_LOOP_RESERVE
    settings.connect_timeout_ns = ceil(limits.connect_timeout_s * 1e9)
    settings.first_byte_timeout_ns = ceil(limits.first_token_timeout_s * 1e9)
    settings.idle_timeout_ns = ceil(limits.idle_timeout_s * 1e9)
    settings.total_timeout_ns = ceil(limits.total_timeout_s * 1e9)
    settings.max_head_bytes = limits.max_head_bytes
    settings.max_body_bytes = limits.max_body_bytes
    return settings


def _reach(address: Address, timeout_s: float) -> tuple[int, str]:
    """Family and numeric address of the first of the host's addresses that takes a connection."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unreachable(f"cannot find host {address.host}: {error.strerror}") from None
    why = "no address"
    for family, kind, protocol, _, target in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.settimeout(timeout_s)
            try:
                probe.connect(target)
            except OSError as error:
                why = error.strerror or "no answer in time"
                continue
            return int(family), str(target[0])
    raise Unreachable(f"cannot connect to {address.authority}: {why}")
