"""One file to hand on: a session, tidied, without secrets, compressed with xz and guarded by a SHA-256 check.

A pack is the plain session as one xz stream (`NAME.trtune.xz`): `xz --decompress` gives it back where there is no trtune. Unpacking
one from a stranger costs bounded memory, time and disk.
"""

from __future__ import annotations

import errno
import lzma
import os
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from sessions import schema
from sessions.anonymise import Anonymiser, hosts_of
from sessions.errors import DamagedData, NotASession, SessionExists
from sessions.opening import open_read_only
from sessions.repair import OPTUNA_TABLES
from sessions.requests import RequestTable
from sessions.secret_words import without_secrets
from sessions.writing import META

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import IO

SUFFIX = ".xz"
PRESET = 1
"""Of xz: the higher ones take four times as long for a few percent."""

MAX_SESSION_BYTES = 16 << 30
"""Largest session unpacked."""

MAX_RATIO = 200
"""Most bytes that a packed byte may become, looked at from `RATIO_FROM_BYTES` on; sessions pack by 2 to 10."""

RATIO_FROM_BYTES = 32 << 20
SPARE_BYTES = 64 << 20
"""Space that unpacking leaves free."""

_MAGIC = b"\xfd7zXZ\x00"
_SQLITE = b"SQLite format 3\x00"
_APPLICATION_ID_AT = 68
_MEMORY_BYTES = 128 << 20
_CHUNK_BYTES = 1 << 20
_CHECKS = (lzma.CHECK_CRC64, lzma.CHECK_SHA256)


@dataclass(slots=True)
class Packed:
    """What came of packing.

    Attributes:
        path: The pack.
        session_bytes: Size of the session as it lies in it.
        pack_bytes: Size of the pack.
        secrets: Kinds of secret taken out, with how often.
        changed: How many values were changed to take out secrets or names.
    """

    path: Path
    session_bytes: int = 0
    pack_bytes: int = 0
    secrets: Counter[str] = field(default_factory=Counter)
    changed: int = 0


def is_packed(path: Path) -> bool:
    """Whether a file is an xz stream."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def pack(path: Path, into: Path, *, anonymise: bool = False, secrets: Sequence[str] = ()) -> Packed:
    """Pack a session; the session itself is not changed. Of one that is being written, what it holds now is packed.

    Args:
        path: The session.
        into: The pack; nothing may be there.
        anonymise: Whether to take out what says where it was made (`sessions.anonymise`).
        secrets: Values known to be secret, looked for besides what looks like one.

    Raises:
        SessionExists: If `into` is taken.
        SessionError: If the session cannot be read.
        OSError: If the pack cannot be written; in one line when there is no room.
    """
    if into.exists():
        raise SessionExists(f"{into} exists already: choose another path")
    packed = Packed(into)
    try:
        with tempfile.TemporaryDirectory(dir=into.parent, prefix=".packing-") as folder:
            copy, draft = Path(folder) / "session", Path(folder) / "pack"
            _tidy_copy(path, copy, packed, anonymise=anonymise, secrets=tuple(secrets))
            packed.session_bytes = copy.stat().st_size
            _deflate(copy, draft)
            packed.pack_bytes = draft.stat().st_size
            schema.publish(draft, into)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(f"{into} cannot be written: {into.parent} has no room for a copy of {path}") from error
    return packed


def unpack(path: Path, into: Path) -> None:
    """Unpack a session into a new file.

    Raises:
        SessionExists: If `into` is taken.
        NotASession: If it is no pack of a session, is damaged, or is made to fill the disk.
    """
    if into.exists():
        raise SessionExists(f"{into} exists already: choose another path")
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=".unpacking-") as folder:
        draft = Path(folder) / "session"
        _inflate(path, draft)
        open_read_only(draft).close()
        schema.publish(draft, into)


class Readable:
    """A session that can be read in place: the file itself, or what a pack holds, in a folder that goes away at `close`.

    Attributes:
        path: What to open.
    """

    def __init__(self, path: Path) -> None:
        """Unpack, if it is a pack.

        Raises:
            NotASession: If a pack cannot be unpacked.
        """
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.path = path
        if is_packed(path):
            self._folder = tempfile.TemporaryDirectory(prefix="trtune-")
            self.path = Path(self._folder.name) / path.name.removesuffix(SUFFIX)
            try:
                _inflate(path, self.path)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Remove what was unpacked."""
        if self._folder is not None:
            self._folder.cleanup()


def _deflate(plain: Path, into: Path) -> None:
    with plain.open("rb") as source, lzma.open(into, "wb", check=lzma.CHECK_SHA256, preset=PRESET) as file:
        while chunk := source.read(_CHUNK_BYTES):
            file.write(chunk)


def _tidy_copy(path: Path, copy: Path, packed: Packed, *, anonymise: bool, secrets: tuple[str, ...]) -> None:
    with closing(open_read_only(path)) as old, closing(sqlite3.connect(copy, isolation_level=None)) as new:
        new.execute("PRAGMA trusted_schema = OFF")
        try:
            old.backup(new)
            new.execute("PRAGMA journal_mode = DELETE")
            names = Anonymiser(hosts_of(new)) if anonymise else None

            def clean(text: str) -> str:
                text, found = without_secrets(text, secrets)
                packed.secrets.update(found)
                return names(text) if names else text

            new.execute("BEGIN")
            for table in (*schema.tables(), *OPTUNA_TABLES):
                packed.changed += _clean_table(new, table, clean)
            packed.changed += _clean_errors(new, clean)
            told = {"utc_ns": time.time_ns(), "anonymised": anonymise, "secrets_removed": dict(packed.secrets)}
            new.execute(META, ("packed", orjson.dumps(told).decode()))
            new.execute("COMMIT")
            new.execute("VACUUM")  # nothing of what was taken out stays in free pages
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, str(error)) from error
            raise DamagedData(f"{path} cannot be packed ({error}); see: trtune sessions repair {path}") from error


def _clean_table(new: sqlite3.Connection, table: str, clean: Callable[[str], str]) -> int:
    described = new.execute("SELECT name, type FROM pragma_table_info(?)", (table,)).fetchall()
    columns = [name for name, kind in described if kind.upper().startswith(("TEXT", "VARCHAR", "JSON"))]
    if not columns:
        return 0
    key = "key" if table == "meta" else "rowid"
    names = ", ".join(map(schema.quoted, columns))
    changes = []
    for identity, *texts in new.execute(f"SELECT {key}, {names} FROM {table}"):  # noqa: S608 - names are quoted
        cleaned = [clean(text) if isinstance(text, str) else text for text in texts]
        if cleaned != texts:
            changes.append((*cleaned, identity))
    assignments = ", ".join(f"{schema.quoted(name)} = ?" for name in columns)
    new.executemany(f"UPDATE {table} SET {assignments} WHERE {key} = ?", changes)  # noqa: S608 - names are quoted
    return len(changes)


def _clean_errors(new: sqlite3.Connection, clean: Callable[[str], str]) -> int:
    """The same for the error texts inside request blocks."""
    changes = []
    for identity, data in new.execute("SELECT id, data FROM request_block"):
        try:
            told = RequestTable.from_blob(data, arrivals=False).errors
            cleaned = tuple(clean(text) for text in told)
            if cleaned != told:
                changes.append((replace(RequestTable.from_blob(data), errors=cleaned).to_blob(), identity))
        except TypeError as error:
            raise DamagedData(f"request block {identity} is none") from error
    new.executemany("UPDATE request_block SET data = ? WHERE id = ?", changes)
    return len(changes)


def _inflate(path: Path, into: Path) -> None:
    try:
        with path.open("rb") as packed, into.open("xb") as plain:
            _inflate_stream(path, packed, plain)
    except (lzma.LZMAError, EOFError) as error:
        _forget(into)
        raise NotASession(f"{path} is damaged or no packed session ({error})") from error
    except BaseException:
        _forget(into)
        raise


def _inflate_stream(path: Path, packed: IO[bytes], plain: IO[bytes]) -> None:
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY_BYTES)
    read_bytes = written_bytes = 0
    while not stream.eof:
        data = packed.read(_CHUNK_BYTES) if stream.needs_input else b""
        if stream.needs_input and not data:
            raise EOFError("it is cut short")
        read_bytes += len(data)
        piece = stream.decompress(data, _CHUNK_BYTES)
        if not written_bytes and piece:
            _check_head(path, piece)
        written_bytes += len(piece)
        _check_growth(path, plain, read_bytes, written_bytes)
        plain.write(piece)
    if stream.check not in _CHECKS:
        raise NotASession(f"{path} carries no check of its contents: it is no packed session")
    if stream.unused_data or packed.read(1):
        raise NotASession(f"{path} holds more than one session; refused")


def _check_head(path: Path, piece: bytes) -> None:
    identity = piece[_APPLICATION_ID_AT : _APPLICATION_ID_AT + 4]
    if not piece.startswith(_SQLITE) or int.from_bytes(identity, "big") != schema.APPLICATION_ID:
        raise NotASession(f"{path} is packed, but not a trtune session")


def _check_growth(path: Path, plain: IO[bytes], read_bytes: int, written_bytes: int) -> None:
    if written_bytes > MAX_SESSION_BYTES:
        raise NotASession(f"{path} unpacks to more than {MAX_SESSION_BYTES >> 30} GiB; refused")
    if written_bytes > max(RATIO_FROM_BYTES, MAX_RATIO * read_bytes):
        raise NotASession(f"{path} unpacks to more than {MAX_RATIO} times its size: no session does; refused")
    told = os.fstatvfs(plain.fileno())
    if told.f_bavail * told.f_frsize < SPARE_BYTES:
        raise NotASession(
            f"{path} does not fit the disk it is unpacked to; set TMPDIR to another, or use: trtune sessions unpack"
        )


def _forget(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def packs_in(folder: Path) -> Iterable[Path]:
    """The packs in a folder."""
    return folder.glob(f"*.trtune{SUFFIX}")
