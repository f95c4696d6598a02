"""Columns of numbers as one compressed blob, and back.

A block is self-describing, bounded and free of code: `magic | header length | JSON header | payload`. The header
names each column with its dtype, its length and how its bytes were filtered; the payload holds the columns one
after the other, each compressed with zlib. Filters make slowly changing integers small:

* `delta`: differences between neighbours, where they are smaller than the values lie apart;
* `shuffle`: byte planes instead of values (all low bytes first). Planes are noise or runs: zlib looks for runs only, which is
  quicker than looking for patterns and packs better.

A column of one value throughout is not in the payload: its entry names the value (`constant`).

Reading a block from a stranger costs bounded memory: every length is checked before it is used.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from sessions.errors import DamagedData
from sessions.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MAGIC = b"TTB1"
MAX_VALUES = 1 << 24
"""Longest column accepted when reading; a writer cuts its blocks long before that."""

_HEADER = struct.Struct("<4sI")
_DTYPES = {"i1": np.int8, "i2": np.int16, "i4": np.int32, "i8": np.int64, "u2": np.uint16, "f4": np.float32}
MAX_BLOCK_BYTES = 512 << 20
"""Largest decoded size of a whole block."""

_MAX_HEADER_BYTES = 2 << 20
_MAX_COLUMNS = 64
_DECODED_BYTES = 8
_COMPRESSION_LEVEL = 1


def encode_block(columns: Mapping[str, NDArray[Any]], extra: Mapping[str, Any] | None = None) -> bytes:
    """Pack named one-dimensional arrays, and a small JSON-able `extra`, into one blob.

    Integer columns are stored in the narrowest type that holds their differences.

    Raises:
        ValueError: If a column is not one-dimensional or its dtype is not one of the stored ones.
    """
    described: list[dict[str, Any]] = []
    payload: list[bytes] = []
    for name, values in columns.items():
        if values.ndim != 1:
            raise ValueError(f"column {name!r} must be one-dimensional")
        entry, data = _pack(name, values)
        described.append(entry)
        payload.append(data)
    header = orjson.dumps({"columns": described, "extra": dict(extra or {})})
    if len(header) > _MAX_HEADER_BYTES:
        raise ValueError(f"block header of {len(header)} bytes exceeds {_MAX_HEADER_BYTES}")
    return b"".join([_HEADER.pack(MAGIC, len(header)), header, *payload])


def decode_block(data: bytes, *, skip: frozenset[str] = frozenset()) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Unpack what `encode_block` wrote.

    Args:
        data: The blob.
        skip: Columns to leave out.

    Returns:
        The columns by name, each with the dtype it was given, and the `extra` object.

    Raises:
        DamagedData: If the blob is not a well-formed block or asks for more memory than is allowed.
    """
    try:
        magic, header_bytes = _HEADER.unpack_from(data)
        if magic != MAGIC or header_bytes > _MAX_HEADER_BYTES:
            raise DamagedData("a data block has an unknown format")
        offset = _HEADER.size + header_bytes
        header = orjson.loads(data[_HEADER.size : offset])
        entries = header["columns"]
        counts = [int(entry["n"]) for entry in entries]
        if min(counts, default=0) < 0:
            raise DamagedData(f"a data block claims {min(counts)} values")
        if len(entries) > _MAX_COLUMNS or sum(counts) * _DECODED_BYTES > MAX_BLOCK_BYTES:
            raise DamagedData("a data block claims more values than fit in memory")
        columns: dict[str, NDArray[Any]] = {}
        for entry in entries:
            stored_bytes = int(entry["bytes"])
            if stored_bytes < 0 or offset + stored_bytes > len(data):
                raise DamagedData("a data block is cut short")
            if entry["name"] not in skip:
                columns[str(entry["name"])] = _unpack(entry, data[offset : offset + stored_bytes])
            offset += stored_bytes
        extra = header["extra"]
        if not isinstance(extra, dict):
            raise DamagedData("a data block is malformed")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, struct.error, zlib.error) as error:
        raise DamagedData(f"a data block cannot be read: {clean_line(str(error))[:200]}") from error
    return columns, extra


def _pack(name: str, values: NDArray[Any]) -> tuple[dict[str, Any], bytes]:
    code = values.dtype.str.lstrip("<>|=")
    if code not in _DTYPES:
        raise ValueError(f"column {name!r} has dtype {values.dtype}, which is not stored")
    if values.size and values.dtype.kind in "iu" and (values == values[0]).all():
        return {"name": name, "dtype": code, "n": int(values.size), "constant": int(values[0]), "bytes": 0}, b""
    stored, delta = values, False
    if values.dtype.kind in "iu" and values.size > 1:
        wide = values.astype(np.int64)
        steps = np.diff(wide, prepend=np.int64(0))
        # Times and counters change little from one to the next; gaps between tokens lie around a mean.
        apart = wide.astype(np.float64)
        delta = bool(np.median(np.abs(steps[1:].astype(np.float64))) <= np.median(np.abs(apart - np.median(apart))))
        stored = _narrow(steps if delta else wide)
    raw = np.ascontiguousarray(stored).view(np.uint8).reshape(stored.size, stored.dtype.itemsize).T.tobytes()
    packer = zlib.compressobj(_COMPRESSION_LEVEL, strategy=zlib.Z_RLE)
    data = packer.compress(raw) + packer.flush()
    entry = {
        "name": name,
        "dtype": code,
        "stored": stored.dtype.str.lstrip("<>|="),
        "n": int(values.size),
        "delta": delta,
        "bytes": len(data),
    }
    return entry, data


def _unpack(entry: Mapping[str, Any], data: bytes) -> NDArray[Any]:
    count = int(entry["n"])
    if count > MAX_VALUES:
        raise DamagedData(f"a data block claims {count} values")
    if "constant" in entry:
        return np.full(count, entry["constant"], _DTYPES[entry["dtype"]])
    stored = np.dtype(_DTYPES[entry["stored"]])
    expected = count * stored.itemsize
    inflater = zlib.decompressobj()
    raw = inflater.decompress(data, expected + 1)
    if len(raw) != expected:
        raise DamagedData(f"a column holds {len(raw)} bytes where {expected} were announced")
    values: NDArray[Any] = np.frombuffer(raw, np.uint8)
    if stored.itemsize > 1:
        values = np.ascontiguousarray(values.reshape(stored.itemsize, count).T)
    values = values.view(stored).reshape(count)
    if entry["delta"]:
        values = np.cumsum(values, dtype=np.int64)
    return values.astype(_DTYPES[entry["dtype"]], copy=False)


def _narrow(values: NDArray[np.int64]) -> NDArray[Any]:
    low, high = int(values.min()), int(values.max())
    for candidate in (np.int8, np.int16, np.int32):
        bounds = np.iinfo(candidate)
        if bounds.min <= low and high <= bounds.max:
            return values.astype(candidate)
    return values
