"""Settings of TensorRT-LLM as the nested mapping of its YAML file (contract trtllm 1.3 and 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines._knobs import structured
from engines._trtllm_speculation_knobs import METHOD
from engines._trtllm_versioned import COMPILE_ON, GRAPH_BATCH_SIZE, GRAPH_BATCH_SIZES, GRAPHS_ON, SWITCHES
from engines._yaml import load_yaml
from engines.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from engines.knob import Knob, Value

LARGEST_FILE_BYTES = 1 << 20
_OFF_UNLESS_ASKED_FOR = {COMPILE_ON: True, METHOD: None}
"""Objects that switch something on by being there: their members count only with this knob set."""


def nested(knobs: Iterable[Knob], params: Mapping[str, Value]) -> dict[str, Any]:
    """The settings as nested mappings.

    What is left to the server is not named, since an object in the file replaces the server's own one wholesale. A
    switched-off object is null; members of an object that is off, and knobs whose condition is not met, are left out.
    """
    known = {knob.name: knob for knob in knobs}
    tree: dict[str, Any] = {}
    for name, value in params.items():
        if value is not None and name not in SWITCHES and _counts(known[name], params):
            put(tree, name, structured(known[name], value))
    for switch in SWITCHES:
        if (wanted := params.get(switch)) is not None:
            owner = switch.rpartition(".")[0]
            tree[owner] = tree.get(owner, {}) if wanted else None
    return tree


def put(tree: dict[str, Any], name: str, value: object) -> None:
    """Set a dotted name, or with None take it out; whatever is no mapping on the way is replaced by one."""
    *parents, leaf = name.split(".")
    for parent in parents:
        inner = tree.get(parent)
        if not isinstance(inner, dict):
            inner = tree[parent] = {}
        tree = inner
    if value is None:
        tree.pop(leaf, None)
    else:
        tree[leaf] = value


def _counts(knob: Knob, params: Mapping[str, Value]) -> bool:
    """Whether a knob has an effect: conditions count when they are named, and always for objects that switch on."""
    if knob.name.startswith("cuda_graph_config.") and params.get(GRAPHS_ON) is False:
        return False
    if knob.name == GRAPH_BATCH_SIZE and params.get(GRAPH_BATCH_SIZES):
        return False  # It follows from the list, and up to 1.2 the server refuses both.
    return all(
        params.get(name) in values
        for name, values in knob.requires.items()
        if name in params or name in _OFF_UNLESS_ASKED_FOR
    )


def read_settings(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file of settings.

    Raises:
        BadConfiguration: In one line, when the file cannot be read, is no YAML, or its root is no mapping.
    """
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise BadConfiguration(f"{path} is larger than {LARGEST_FILE_BYTES} bytes: it is no file of settings")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadConfiguration(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise BadConfiguration(f"{path} cannot be read: {error.strerror}") from error
    return parse_settings(text, str(path))


def parse_settings(text: str, where: str) -> dict[str, Any]:
    """The mapping in a YAML text without aliases.

    Raises:
        BadConfiguration: In one line, with the place in the text.
    """
    loaded = load_yaml(text, where, aliases=False)
    if not isinstance(loaded, dict):
        found = {list: "a list", type(None): "empty"}.get(type(loaded), "a single value")
        raise BadConfiguration(f"{where} must be a mapping of settings (`key: value` lines); it is {found}")
    return loaded


def flat_settings(knobs: Iterable[Knob], tree: Mapping[str, Any]) -> tuple[dict[str, Value], tuple[str, ...]]:
    """A file's settings by knob name, and the names of those that are no knob or that the knob would not take."""
    known = {knob.name: knob for knob in knobs}
    found: dict[str, Value] = {}
    unknown: list[str] = []
    for name, value in _leaves(tree, ""):
        switch = f"{name}.enabled"
        if switch in known and value is None:
            found[switch] = False
        elif name in known and known[name].allows(read := _as_value(value)):
            found[name] = read
        else:
            unknown.append(name)
    return found, tuple(unknown)


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def _as_value(value: object) -> Value:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return value if isinstance(value, bool | int | float | str) else None
