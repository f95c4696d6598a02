"""The user's own settings of the screen: theme, rate, characters, mouse, keys (`screen.toml` in the user's config folder)."""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui.harmless import number, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FPS_LIMITS = (0.2, 20.0)
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ScreenConfig:
    """What the user's file says; what it leaves open is None or empty.

    Attributes:
        theme: Name of a theme.
        fps: Most refreshes a second.
        ascii: Whether to draw with ASCII characters only.
        mouse: Whether the mouse is used.
        keys: Keys by the word they are shown under, separated by commas.
        problems: What could not be understood, a line each; it is left out and the rest counts.
    """

    theme: str = ""
    fps: float | None = None
    ascii: bool = False
    mouse: bool = True
    keys: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def config_path() -> Path:
    """Where the file is looked for: `TRTUNE_SCREEN`, or the user's config folder."""
    from platformdirs import user_config_path

    told = os.environ.get("TRTUNE_SCREEN")
    return Path(told).expanduser() if told else user_config_path("trtune") / "screen.toml"


def read_config(path: Path) -> ScreenConfig:
    """The settings of a file; a missing one says nothing, a broken one is told in `problems`."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return ScreenConfig(problems=(f"{path}: larger than {MAX_BYTES >> 20} MiB: not read",))
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ScreenConfig()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return ScreenConfig(problems=(f"{path}: {error}",))
    return _config(told, path)


def _config(told: Mapping[str, Any], path: Path) -> ScreenConfig:
    problems = [f"{path}: {name} is unknown{nearest(name, _FIELDS)}" for name in told if name not in _FIELDS]
    fps = number(told.get("fps"))
    if "fps" in told and (fps is None or not FPS_LIMITS[0] <= fps <= FPS_LIMITS[1]):
        problems.append(f"{path}: fps = {told['fps']!r} must be a number from {FPS_LIMITS[0]:g} to {FPS_LIMITS[1]:g}")
        fps = None
    flags = [name for name in ("ascii", "mouse") if not isinstance(told.get(name, True), bool)]
    problems += [f"{path}: {name} = {told[name]!r} must be true or false" for name in flags]
    if not isinstance(told.get("theme", ""), str):
        problems.append(f"{path}: theme = {told['theme']!r} must be a name in quotes")
    keys = {}
    for word, named in table(told.get("keys")).items():
        if isinstance(named, str) and named.strip():
            keys[word] = named
        else:
            problems.append(f'{path}: keys.{word} = {named!r} must be keys in quotes, such as "p" or "p,f5"')
    return ScreenConfig(
        theme=told["theme"] if isinstance(told.get("theme"), str) else "",
        fps=fps,
        ascii=told.get("ascii") is True,
        mouse=told.get("mouse") is not False,
        keys=keys,
        problems=tuple(problems),
    )


_FIELDS = ("theme", "fps", "ascii", "mouse", "keys")


def nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant."""
    known = sorted(known)
    found = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {found[0]}?" if found else f"; there are: {', '.join(known)}"
