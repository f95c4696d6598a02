"""The model repository: a model's files as they are now, or as a load request overrides them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from engines._triton_pbtxt import parse_pbtxt
from engines.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONFIG_FILE: Final = "config.pbtxt"
_FILE_PREFIX: Final = "file:"
_LARGEST_FILE_BYTES: Final = 16 << 20


class PollError(Exception):
    """A model's files or a load request's overrides cannot be used (HTTP 500)."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """One model's configuration and files.

    Attributes:
        name: the model.
        config: its configuration in the shape of ``GET /config``.
        files: contents of its version folder by path, such as ``1/model.yaml``.
        overridden: whether they came with a load request.
    """

    name: str
    config: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    overridden: bool = False

    def fingerprint(self) -> str:
        """Return what changes whenever a file or the configuration does."""
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for path, content in sorted(self.files.items()):
            digest.update(path.encode() + b"\0" + content + b"\0")
        return digest.hexdigest()


class Repository:
    """The folders a server was started with."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = folders

    def names(self) -> tuple[str, ...]:
        """Return every model's name, sorted."""
        found = {path.parent.name for folder in self._folders for path in folder.glob(f"*/{CONFIG_FILE}")}
        return tuple(sorted(found))

    def read(self, name: str) -> ModelFiles:
        """Read a model from disk.

        Raises:
            PollError: there is no such model, or its configuration cannot be read.
        """
        for folder in self._folders:
            path = folder / name / CONFIG_FILE
            if path.is_file() and path.parent.parent == folder:
                return _read_model(name, path)
        raise PollError(f"failed to load '{name}', failed to poll from model repository")


def _read_model(name: str, path: Path) -> ModelFiles:
    try:
        config = parse_pbtxt(path.read_text(encoding="utf-8"), str(path))
        files = {
            str(file.relative_to(path.parent)): file.read_bytes()
            for file in sorted(path.parent.rglob("*"))
            if file.is_file() and file != path and file.stat().st_size <= _LARGEST_FILE_BYTES
        }
    except (OSError, UnicodeDecodeError, BadConfiguration) as error:
        raise PollError(f"failed to load '{name}', failed to poll from model repository") from error
    return ModelFiles(name, {**config, "name": name}, files)


def overridden(on_disk: ModelFiles, parameters: Mapping[str, Any]) -> ModelFiles | None:
    """Return the model as a load request wants it, None when the request overrides nothing.

    Raises:
        PollError: files came without ``config``, or either cannot be read.
    """
    files = {key.removeprefix(_FILE_PREFIX): value for key, value in parameters.items() if key.startswith(_FILE_PREFIX)}
    text = parameters.get("config")
    if text is None and not files:
        return None
    failure = PollError(f"failed to load '{on_disk.name}', failed to poll from model repository")
    if text is None:
        raise failure
    try:
        config = json.loads(text)
        contents = {path: base64.b64decode(str(content), validate=True) for path, content in files.items()}
    except (TypeError, ValueError, RecursionError, binascii.Error):
        raise failure from None
    if not isinstance(config, dict):
        raise failure
    return ModelFiles(on_disk.name, config, contents or on_disk.files, overridden=bool(contents))
