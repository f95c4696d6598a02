"""A real PostgreSQL for tests and benchmarks, on loopback, in a folder of its own.

Its binaries are the system's, or those of the package pgserver.
"""

from __future__ import annotations

import getpass
import importlib.util
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import psutil
import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, DATABASE = "tuner", "tuning"


def binaries() -> Path | None:
    """Folder of initdb and postgres, or None."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    packaged = importlib.util.find_spec("pgserver")
    if packaged is not None and packaged.origin is not None:
        folders.append(Path(packaged.origin).parent / "pginstall" / "bin")
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@contextmanager
def running() -> Iterator[Postgres]:
    """A server with an empty database for as long as a benchmark runs; a SIGTERM ends both as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with closing(Postgres()) as server:
            server.start()
            server.create()
            yield server
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class Postgres:
    """One server; it refuses to run as root, so as root it runs as `nobody`."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="trtune-pg-")))
    password: str = field(default_factory=lambda: secrets.token_hex(8))
    port: int = 0
    _server: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        found = binaries()
        assert found is not None
        self._bin = found
        self._as = {"user": "nobody", "group": "nogroup"} if getpass.getuser() == "root" else {}
        if self._as:
            shutil.chown(self.folder, **self._as)
        secret = self.folder / "secret"
        secret.write_text(self.password)
        secret.chmod(0o644)
        self._run("initdb", "-D", self.data, "-U", USER, "--pwfile", secret, "-A", "scram-sha-256", "--no-sync")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def pid(self) -> int | None:
        return None if self._server is None else self._server.pid

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, password: str | None = None, database: str = DATABASE) -> str:
        return f"postgresql://{USER}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = ["-p", str(self.port), "-k", "", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        options += ["-c", "max_connections=400"]
        self._server = subprocess.Popen(
            [self._bin / "postgres", "-D", self.data, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            **self._as,  # type: ignore[call-overload]
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.execute("SELECT 1", "postgres")
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "PostgreSQL did not start"
                time.sleep(0.05)

    def cpu_s(self) -> float:
        """CPU time of the server and of its children that live, in seconds."""
        assert self.pid is not None
        first = psutil.Process(self.pid)
        return float(sum(sum(process.cpu_times()[:4]) for process in [first, *first.children(recursive=True)]))

    def storage(self) -> optuna.storages.RDBStorage:
        """The database as Optuna alone sees it."""
        return optuna.storages.RDBStorage(self.url().replace("postgresql:", "postgresql+psycopg:"))

    def create(self, database: str = DATABASE) -> None:
        self.execute(f"CREATE DATABASE {database}", "postgres")

    def execute(self, statement: str, database: str = DATABASE) -> None:
        with psycopg.connect(self.url(database=database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def stop(self) -> None:
        """At once, as in a crash of its host: by the signal that `pg_ctl stop -m immediate` sends.

        Not by pg_ctl itself, which looks on for a minute where a server that has ended is not waited for yet.
        """
        if self._server is not None:
            processes = [psutil.Process(self._server.pid), *psutil.Process(self._server.pid).children(recursive=True)]
            self._server.send_signal(signal.SIGQUIT)
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(30)
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._server.wait()
            self._server = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *words: str | Path, check: bool = True) -> int:
        done = subprocess.run(
            [self._bin / program, *words],
            capture_output=True,
            cwd=self.folder,
            check=False,
            **self._as,  # type: ignore[call-overload]
        )
        assert not check or done.returncode == 0, done.stderr.decode()
        return int(done.returncode)
