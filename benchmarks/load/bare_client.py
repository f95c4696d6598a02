"""The least a Python program can do to receive streams with kernel time: the yardstick for what the generator process adds.

    python bare_client.py PORT CONCURRENCY REQUESTS TOKENS

No HTTP parsing, no limits, no schedule: the end of an answer is where its bytes end like one. Prints CPU seconds and chunks.
"""

from __future__ import annotations

import gc
import select
import socket
import sys
import time

SO_TIMESTAMPNS = 35


def main() -> None:
    port, concurrency, requests, tokens = (int(value) for value in sys.argv[1:5])
    body = b'{"prompt":"a","max_tokens":%d}' % tokens
    connections: dict[int, tuple[socket.socket, list[tuple[int, bytes, bytes]]]] = {}
    poller = select.epoll()
    for _ in range(concurrency):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setblocking(False)
        connections[sock.fileno()] = (sock, [])
        poller.register(sock.fileno(), select.EPOLLIN)
    gc.freeze()
    gc.disable()
    began_s = time.process_time()
    sent = ended = 0

    def send(sock: socket.socket) -> None:
        nonlocal sent
        head = b"POST / HTTP/1.1\r\nX-Request-ID: %d\r\nContent-Length: %d\r\n\r\n" % (sent, len(body))
        sock.send(head + body)
        sent += 1

    for sock, _ in connections.values():
        send(sock)
    while ended < requests:
        for fd, _ in poller.poll(1, 4096):
            sock, reads = connections[fd]
            data, ancillary, _, _ = sock.recvmsg(65536, 64)
            reads.append((time.monotonic_ns(), ancillary[0][2] if ancillary else b"", data))
            if data.endswith(b"0\r\n\r\n"):
                ended += 1
                reads.clear()
                if sent < requests:
                    send(sock)
    print(time.process_time() - began_s, requests * tokens)


if __name__ == "__main__":
    main()
