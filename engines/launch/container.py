"""What a container of a server needs beyond its command: image, GPUs, folders, shared memory, network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.launch.spec import LaunchRequest

ALL_GPUS = "all"
ALL_INTERFACES = "0.0.0.0"  # noqa: S104
USUAL_SHM_SIZE_BYTES = 16 * 2**30
"""Size of /dev/shm in NVIDIA's run lines for their containers."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or volume made visible in the container.

    Attributes:
        source: Folder of the host that runs the container, or name of a volume (Kubernetes: of a claim).
        target: Path in the container.
        read_only: Whether the container may not write there.
    """

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """A container to start a server in.

    Attributes:
        image: Image with its tag.
        gpus: Indices or UUIDs of its GPUs; `("all",)` for every one, empty for none. Kubernetes takes their number.
        mounts: Folders and volumes.
        network: `host` shares the host's network, which adds nothing to latencies; `bridge` maps `port`.
        port: Port the server listens on inside the container; unused with the host's network.
        shm_size_bytes: Size of `/dev/shm`; 0 leaves it to the runtime (Docker: 64 MiB, too little for several GPUs).
        ipc: `host` shares the host's shared memory, as NVIDIA's run lines do.
        ulimits: Limits by name, such as `memlock: -1`.
        user: User and group, as `1000:1000`; empty: the image's own.
        keep_entrypoint: Whether the image's entry point stays in front of the command.
    """

    image: str
    gpus: tuple[str, ...] = (ALL_GPUS,)
    mounts: tuple[Mount, ...] = ()
    network: Literal["host", "bridge"] = "host"
    port: int = 8000
    shm_size_bytes: int = 0
    ipc: Literal["", "host", "private"] = ""
    ulimits: Mapping[str, int] = field(default_factory=dict)
    user: str = ""
    keep_entrypoint: bool = False


def listen_address(request: LaunchRequest) -> tuple[str, int]:
    """Host and port for the server's own command line.

    Behind a bridge the server must listen on all interfaces of its container, on the container's own port.
    """
    if request.container is not None and request.container.network == "bridge":
        return ALL_INTERFACES, request.container.port
    return request.host, request.port
