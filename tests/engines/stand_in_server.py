"""A server to be launched by tests: `python stand_in_server.py PORT [BEHAVIOUR...]`.

Behaviours: `ready` answers /health with 200; `unwell` with 503 after the first 200; `ignore-sigint`, `ignore-sigterm`
ignore these signals; `child` starts a process that leaves the group and ignores SIGTERM; `loud` prints long, broken and
coloured lines; `fail` prints a fatal line, then a more telling one, and ends with 3. /crash ends it with 7.
"""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('child', flush=True); time.sleep(600)"
)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Handler(http.server.BaseHTTPRequestHandler):
    behaviours: frozenset[str] = frozenset()
    asked = 0

    def do_GET(self) -> None:
        if self.path == "/crash":
            os._exit(7)
        Handler.asked += 1
        unwell = "unwell" in self.behaviours and Handler.asked > 1
        self.send_response(503 if unwell else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        del format, args


def loud() -> None:
    sys.stdout.buffer.write(
        b"x" * 100_000 + b"\n" + b"bad \xff bytes\n" + b"\x1b[31mred\x1b[0m\n" + b"10%\r50%\r100%\n"
    )
    sys.stdout.flush()
    for number in range(5000):
        say(f"line {number}")


def fail() -> None:
    say("RuntimeError: worker failed")
    time.sleep(0.1)
    say("component could not be created: KV cache")
    time.sleep(0.1)
    sys.exit(3)


def main() -> None:
    port, behaviours = int(sys.argv[1]), frozenset(sys.argv[2:])
    if "fail" in behaviours:
        fail()
    for name, number in (("ignore-sigint", signal.SIGINT), ("ignore-sigterm", signal.SIGTERM)):
        if name in behaviours:
            signal.signal(number, lambda *_: None)
    if "child" in behaviours:
        subprocess.Popen([sys.executable, "-c", STUBBORN], start_new_session=True)
    if "loud" in behaviours:
        loud()
    if "ready" not in behaviours:
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            say("RuntimeError: worker failed")
            raise
    Handler.behaviours = behaviours
    server = http.server.HTTPServer(("127.0.0.1", port), Handler)
    say("listening")
    server.serve_forever()


if __name__ == "__main__":
    main()
