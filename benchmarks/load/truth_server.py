"""The truth server in Python, for hosts without a C compiler: same command line and log as truth_server.c, less exact.

python truth_server.py PORT TTFT_US ITL_US LOG
"""

from __future__ import annotations

import heapq
import re
import selectors
import signal
import socket
import struct
import sys
import time
from array import array
from pathlib import Path

SO_TIMESTAMPNS = 35
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = (
    b'data: {"id":"cmpl-0123456789abcdef0123456789abcdef","object":"text_completion","created":1795219745,"model":"truth",'
    b'"choices":[{"index":0,"text":" word","token_ids":null,"logprobs":null,"finish_reason":%b,"stop_reason":null}],'
    b'"usage":null}\n\n'
)
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":%d,"total_tokens":%d}}\n\ndata: [DONE]\n\n'
NUMBER = re.compile(rb"(?i)x-request-id:[^\r]*?(\d+)\r\n")
LENGTH = re.compile(rb"(?i)content-length: *(\d+)\r\n")
BURST = 64


def framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


class Stream:
    """A connection and the answer on it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        self.number = self.arrival_ns = self.count = 0
        self.times_ns: list[int] = []


class TruthServer:
    """Writes every token at its deadline and remembers when."""

    def __init__(self, port: int, ttft_ns: int, itl_ns: int) -> None:
        self.ttft_ns, self.itl_ns = ttft_ns, itl_ns
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.due: list[tuple[int, int, Stream]] = []
        self.order = 0
        self.records: list[Stream] = []
        self.running = True
        self.middle = framed(TOKEN % b"null")
        self.last = framed(TOKEN % b'"length"')

    def run(self) -> None:
        while self.running:
            now_ns = time.monotonic_ns()
            while self.due and self.due[0][0] <= now_ns:
                self.write(heapq.heappop(self.due)[2])
                now_ns = time.monotonic_ns()
            wait_s = max(self.due[0][0] - now_ns, 0) / 1e9 if self.due else 0.2
            for key, _ in self.selector.select(wait_s):
                if key.data is None:
                    self.accept()
                else:
                    self.read(key.data)

    def accept(self) -> None:
        sock, _ = self.listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform.startswith("linux"):
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.selector.register(sock, selectors.EVENT_READ, Stream(sock))

    def read(self, stream: Stream) -> None:
        try:
            data, ancillary, _, _ = stream.sock.recvmsg(1 << 20, 64)
        except OSError:
            data, ancillary = b"", []
        if not data:
            self.selector.unregister(stream.sock)
            stream.sock.close()
            return
        arrival_ns = time.monotonic_ns()
        if ancillary:
            seconds, nanoseconds = struct.unpack("@qq", ancillary[0][2][:16])
            arrival_ns += seconds * 1_000_000_000 + nanoseconds - time.time_ns()
        stream.received += data
        head, end, body = stream.received.partition(b"\r\n\r\n")
        number, length = NUMBER.search(head + end), LENGTH.search(head + end)
        if number is None or length is None or len(body) < int(length[1]):
            return
        answer = Stream(stream.sock)
        answer.number, answer.arrival_ns = int(number[1]), arrival_ns
        wanted = re.search(rb'"max_tokens": *(\d+)', stream.received)
        answer.count = int(wanted[1]) if wanted else 1
        stream.received = b""
        self.records.append(answer)
        stream.sock.sendall(HEAD)
        self.plan(answer)

    def plan(self, stream: Stream) -> None:
        self.order += 1
        due_ns = stream.arrival_ns + self.ttft_ns + len(stream.times_ns) * self.itl_ns
        heapq.heappush(self.due, (due_ns, self.order, stream))

    def write(self, stream: Stream) -> None:
        for _ in range(BURST):
            now_ns = time.monotonic_ns()
            if stream.arrival_ns + self.ttft_ns + len(stream.times_ns) * self.itl_ns > now_ns:
                break
            stream.times_ns.append(now_ns)
            try:
                if len(stream.times_ns) == stream.count:
                    stream.sock.sendall(self.last + framed(USAGE % (stream.count, stream.count + 8)) + b"0\r\n\r\n")
                    return
                stream.sock.sendall(self.middle)
            except OSError:
                return
        self.plan(stream)

    def save(self, path: Path) -> None:
        with path.open("wb") as log:
            for record in self.records:
                missing = [0] * (record.count - len(record.times_ns))
                array("q", [record.number, record.arrival_ns, record.count, *record.times_ns, *missing]).tofile(log)


def main() -> None:
    port, ttft_us, itl_us = (int(value) for value in sys.argv[1:4])
    server = TruthServer(port, ttft_us * 1000, itl_us * 1000)

    def stop(number: int, frame: object) -> None:
        server.running = False

    signal.signal(signal.SIGTERM, stop)
    print("ready", server.listener.getsockname()[1], flush=True)
    server.run()
    server.save(Path(sys.argv[4]))


if __name__ == "__main__":
    main()
