"""A local port whose connections go to a port of a pod, through the Kubernetes API server."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

from engines.launch.ports import split_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CHUNK_BYTES = 65_536


class PortForward:
    """Listens on the host and port of a URL; each connection gets a web socket of its own.

    The client library turns a web socket into a socket pair and a thread, which costs latency and CPU: good for trying a
    server out from anywhere, not for measuring it finely.
    """

    def __init__(self, configuration: Any, namespace: str, pod_port: int, pod: Callable[[], Awaitable[str]]) -> None:
        """Prepare.

        Args:
            configuration: The Kubernetes client's.
            namespace: Namespace of the pod.
            pod_port: Port inside the pod.
            pod: Gives the name of the pod to connect to; empty when there is none.
        """
        self._configuration = configuration
        self._namespace = namespace
        self._pod_port = pod_port
        self._pod = pod
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._lock = threading.Lock()

    async def start(self, url: str) -> None:
        """Listen.

        Raises:
            OSError: If the port is taken.
        """
        host, port = split_url(url)
        self._listener = await asyncio.start_server(self._accept, host, port)

    async def close(self) -> None:
        """Stop listening and end the connections."""
        if self._listener is not None:
            self._listener.close()
        for writer in tuple(self._open):
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await self._forward(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from kubernetes.client import ApiException

        pod = await self._pod()
        if not pod:
            return
        try:
            forward = await asyncio.to_thread(self._connect, pod)
        except (ApiException, OSError):
            return  # the client sees a closed connection, as from a server that is not there yet
        # The library wraps its end of the socket pair; asyncio needs the socket itself.
        raw = forward.socket(self._pod_port)._socket
        raw.setblocking(False)
        far_reader, far_writer = await asyncio.open_connection(sock=raw)
        try:
            pumps = [asyncio.ensure_future(_pump(reader, far_writer)), asyncio.ensure_future(_pump(far_reader, writer))]
            _, pending = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pending:
                pump.cancel()
        finally:
            far_writer.close()

    def _connect(self, pod: str) -> Any:
        """Open a web socket. The library swaps a method of its client for the call, so that one client serves one."""
        import kubernetes
        from kubernetes.stream import portforward

        with self._lock:
            api = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(self._configuration))
            return portforward(
                api.connect_get_namespaced_pod_portforward, pod, self._namespace, ports=str(self._pod_port)
            )


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side ends."""
    with contextlib.suppress(ConnectionError, OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
