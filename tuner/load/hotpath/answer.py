"""The HTTP/1.1 answer as the generator sees it: where its head ends, how its body is framed, and when it is over.

The body is not decoded here; that happens in another process. Only the sizes of its chunks are followed, which is what it takes to
know the end of it for certain.
"""

from __future__ import annotations

from tuner.load.hotpath.frames import FRAMING_CHUNKED, FRAMING_CLOSE, FRAMING_LENGTH

MAX_CHUNK_LINE_BYTES = 1024
MAX_CHUNK_BYTES = 1 << 31


class BadAnswer(Exception):
    """The bytes are no HTTP/1.1 answer; the text says what is wrong with them."""


class Answer:
    """One answer while it comes in.

    Attributes:
        status: HTTP status, 0 before the head is whole.
        framing: One of the FRAMING_* values.
        content_type: As the server wrote it, at most 200 bytes.
        keep_alive: Whether the connection may serve another request.
        finished: Whether the body is whole.
        body_bytes: Bytes of body so far, framing included.
        between_chunks: Whether the latest piece of a chunked body ended with a chunk, and not the last one.
        chunks: Chunks that began in the latest piece of a chunked body.
    """

    __slots__ = (
        "_head", "_left", "_line", "_max_head_bytes", "_trailer", "between_chunks", "body_bytes", "chunks", "content_type",
        "finished", "framing", "keep_alive", "status",
    )  # fmt: skip

    def __init__(self, max_head_bytes: int) -> None:
        self.status = 0
        self.framing = FRAMING_CLOSE
        self.content_type = b""
        self.keep_alive = False
        self.finished = False
        self.body_bytes = 0
        self.chunks = 0
        self.between_chunks = False
        self._head = b""
        self._line = b""
        self._left = 0
        self._trailer = False
        self._max_head_bytes = max_head_bytes

    def feed(self, data: bytes) -> bytes:
        """Take what was read; returns the part of it that belongs to the body, framing included.

        Raises:
            BadAnswer: If this is no answer, its head is too long, its framing is broken, or bytes follow its end.
        """
        if not self.status:
            rest = self._take_head(data)
            if rest is None or (self.finished and not rest):
                return b""
            data = rest
        if self.finished:
            raise BadAnswer("bytes after the end of the answer")
        self.body_bytes += len(data)
        if self.framing == FRAMING_CHUNKED:
            self._follow_chunks(data)
        elif self.framing == FRAMING_LENGTH:
            self._left -= len(data)
            self.finished = self._left <= 0
            if self._left < 0:
                raise BadAnswer("more bytes than Content-Length announced")
        return data

    def close(self) -> bool:
        """The server has closed the connection; returns whether that ends the answer properly."""
        if self.status and not self.finished and self.framing == FRAMING_CLOSE:
            self.finished = True
        return self.finished

    def _take_head(self, data: bytes) -> bytes | None:
        """Read the head; returns what follows it, or None while it is not whole."""
        head = self._head + data if self._head else data
        while True:
            end = head.find(b"\r\n\r\n")
            if end < 0:
                if len(head) > self._max_head_bytes:
                    raise BadAnswer(f"the head of the answer exceeds {self._max_head_bytes} bytes")
                if not head.startswith(b"HTTP/1."[: len(head)]):
                    raise BadAnswer("this is not HTTP/1.1")
                self._head = head
                return None
            if end > self._max_head_bytes:
                raise BadAnswer(f"the head of the answer exceeds {self._max_head_bytes} bytes")
            status = self._parse_head(head[:end])
            head = head[end + 4 :]
            if status >= 200:
                break
        self.status = status
        self._head = b""
        return head

    def _parse_head(self, head: bytes) -> int:
        lines = head.split(b"\r\n")
        first = lines[0].split(None, 2)
        if len(first) < 2 or not first[0].startswith(b"HTTP/1.") or not (first[1].isdigit() and len(first[1]) == 3):
            raise BadAnswer("this is not HTTP/1.1")
        status = int(first[1])
        self.keep_alive = first[0] == b"HTTP/1.1"
        self.framing = FRAMING_CLOSE
        length = -1
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            name = name.lower()
            if name == b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    raise BadAnswer("a transfer encoding other than chunked")
                self.framing = FRAMING_CHUNKED
            elif name == b"content-length":
                value = value.strip()
                if not value.isdigit() or len(value) > 18 or (length >= 0 and int(value) != length):
                    raise BadAnswer("a Content-Length that is no number")
                length = int(value)
            elif name == b"connection":
                tokens = value.lower()
                if b"close" in tokens:
                    self.keep_alive = False
                elif b"keep-alive" in tokens:
                    self.keep_alive = True
            elif name == b"content-type":
                self.content_type = value.strip()[:200]
        if status in (204, 304):
            length, self.framing = 0, FRAMING_LENGTH
        if length >= 0 and self.framing != FRAMING_CHUNKED:
            self.framing = FRAMING_LENGTH
            self._left = length
            self.finished = length == 0 and status >= 200
        if self.framing == FRAMING_CLOSE:
            self.keep_alive = False
        return status

    def _follow_chunks(self, data: bytes) -> None:
        """Step from chunk header to chunk header; `_left` is what is left of the chunk at hand with its line end."""
        at, end = self._left, len(data)
        self.between_chunks = False
        self.chunks = 0
        while at < end:
            stop = data.find(b"\n", at)
            if stop < 0:
                self._line += data[at:]
                if len(self._line) > MAX_CHUNK_LINE_BYTES:
                    raise BadAnswer("a chunk header without end")
                self._left = 0
                return
            line = data[at:stop]
            if self._line:
                line = self._line + line
                self._line = b""
            if self._trailer:
                if line in (b"\r", b""):
                    self.finished = True
                    if stop + 1 != end:
                        raise BadAnswer("bytes after the end of the answer")
                    return
                at = stop + 1
                continue
            size = chunk_size(line)
            if size <= 0:
                if size < 0:
                    raise BadAnswer("a chunk header that is no number")
                self._trailer = True
                at = stop + 1
                continue
            self.chunks += 1
            at = stop + 3 + size
        self._left = at - end
        self.between_chunks = not (self._left or self._line or self._trailer)


def chunk_size(line: bytes) -> int:
    """Size in a chunk header, its extension left aside; -1 if it holds none."""
    try:
        size = int(line, 16)
    except ValueError:
        digits = line.partition(b";")[0].strip()
        if not digits or digits.strip(b"0123456789abcdefABCDEF"):
            return -1
        size = int(digits, 16)
    return size if 0 <= size <= MAX_CHUNK_BYTES else -1
