"""What a level needs to know in the generator process, as lines `name=value` in one frame."""

from __future__ import annotations


class Settings:
    """Settings of one level.

    Attributes:
        family: Address family, as `socket.AF_*`.
        host: Address, resolved already.
        port: TCP port.
        tls: Whether to speak TLS.
        server_name: Host name for TLS.
        ca_file: CA bundle, or "" for the system's.
        verify_tls: Whether certificates are checked.
        closed_loop: Whether a free slot sends the next request, instead of the clock.
        concurrency: Slots of the closed loop.
        ramp_ns: Time in which the slots open up one after the other.
        reuse: 1 keeps connections, 0 does not, -1 until the server turns out to close them.
        reserve: Idle connections kept ready in the open loop.
        connect_timeout_ns: Limit of the phase; so are the three below.
        first_byte_timeout_ns: From sending to the body's first byte.
        idle_timeout_ns: Between two reads.
        total_timeout_ns: From sending to the end.
        max_head_bytes: Longest head of an answer.
        max_body_bytes: Longest body of an answer.
    """

    __slots__ = (
        "ca_file", "closed_loop", "concurrency", "connect_timeout_ns", "family", "first_byte_timeout_ns", "host",
        "idle_timeout_ns", "max_body_bytes", "max_head_bytes", "port", "ramp_ns", "reserve", "reuse", "server_name", "tls",
        "total_timeout_ns", "verify_tls",
    )  # fmt: skip

    def __init__(self) -> None:
        self.family = 2
        self.host = "127.0.0.1"
        self.port = 80
        self.tls = 0
        self.server_name = ""
        self.ca_file = ""
        self.verify_tls = 1
        self.closed_loop = 1
        self.concurrency = 1
        self.ramp_ns = 0
        self.reuse = -1
        self.reserve = 4
        self.connect_timeout_ns = 10_000_000_000
        self.first_byte_timeout_ns = 300_000_000_000
        self.idle_timeout_ns = 120_000_000_000
        self.total_timeout_ns = 3600_000_000_000
        self.max_head_bytes = 65_536
        self.max_body_bytes = 1 << 28

    def to_bytes(self) -> bytes:
        """For the CONFIGURE frame."""
        return "\n".join(f"{name}={getattr(self, name)}" for name in self.__slots__).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Settings:
        """Read what `to_bytes` wrote."""
        settings = cls()
        for line in data.decode().split("\n"):
            name, _, value = line.partition("=")
            kind = type(getattr(settings, name))
            setattr(settings, name, kind(value))
        return settings
