"""A model repository of ours: a copy of the user's, with the settings of one trial written in.

The user's own files are never changed. The copy's `config.pbtxt` carries three parameters: where the copy lies, so that a
later reload finds it; where the user's own lies, so that a setting left out is as it stands there; and the settings, so that
they can be read back from the running server.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from engines._knobs import plain, structured
from engines._triton_pbtxt import dump_pbtxt, parse_pbtxt
from engines._trtllm_versioned import SWITCHES
from engines._trtllm_yaml import put
from engines._yaml import load_yaml
from engines.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines._triton_backends import Backend
    from engines.knob import Value

CONFIG_FILE = "config.pbtxt"
FOLDER_PARAMETER = "trtune_repository"
SOURCE_PARAMETER = "trtune_source"
SETTINGS_PARAMETER = "trtune_settings"
OWN_PARAMETERS = frozenset({FOLDER_PARAMETER, SOURCE_PARAMETER, SETTINGS_PARAMETER})
LARGEST_FILE_BYTES = 4 << 20


def copied_repository(source: Path, target: Path, backend: Backend, params: Mapping[str, Value]) -> dict[Path, str]:
    """The files of a copy of a repository with these settings, by their path in the copy.

    Raises:
        BadConfiguration: If there is no model of this backend, or a file cannot be copied as text.
    """
    files = {target / path.relative_to(source): _text(path) for path in sorted(source.rglob("*")) if _is_wanted(path)}
    model = find_model(source, backend)
    return files | model_files(source / model, target / model, backend, params)


def is_repository(folder: Path) -> bool:
    """Whether a folder holds models of Triton."""
    return any(folder.glob(f"*/{CONFIG_FILE}"))


def find_model(repository: Path, backend: Backend) -> str:
    """The model of a repository that runs on this backend.

    Raises:
        BadConfiguration: If there is none, or more than one.
    """
    found = []
    for path in sorted(repository.glob(f"*/{CONFIG_FILE}")):
        config = parse_pbtxt(_text(path), str(path))
        has_file = not backend.settings_file or (path.parent / backend.settings_file).is_file()
        if config.get("backend") == backend.declared and has_file:
            found.append(path.parent.name)
    if len(found) != 1:
        wanted = f"backend {backend.declared!r}" + (f" and {backend.settings_file}" if backend.settings_file else "")
        raise BadConfiguration(f"{repository} must hold one model with {wanted}; it holds {len(found)}")
    return found[0]


def model_files(source: Path, target: Path, backend: Backend, params: Mapping[str, Value]) -> dict[Path, str]:
    """The two files of a model that hold settings, by their path in the copy.

    Raises:
        BadConfiguration: If one of them cannot be read.
    """
    path = source / CONFIG_FILE
    config = with_settings(parse_pbtxt(_text(path), str(path)), backend, params)
    config["parameters"][FOLDER_PARAMETER] = {"string_value": str(target.parent.absolute())}
    config["parameters"][SOURCE_PARAMETER] = {"string_value": str(source.absolute())}
    files = {target / CONFIG_FILE: dump_pbtxt(config)}
    if backend.settings_file:
        text = _text(source / backend.settings_file)
        files[target / backend.settings_file] = _settings_text(text, source, backend, params)
    return files


def with_settings(config: Mapping[str, Any], backend: Backend, params: Mapping[str, Value]) -> dict[str, Any]:
    """A model's configuration with these settings among its parameters."""
    parameters = dict(config.get("parameters", {}))
    if not backend.settings_file:
        knobs = {knob.name: knob for knob in backend.knobs}
        parameters |= {name: {"string_value": _word(plain(knobs[name], value))} for name, value in params.items()}
    parameters[SETTINGS_PARAMETER] = {"string_value": json.dumps(dict(params), sort_keys=True)}
    return {**config, "parameters": parameters}


def reset_settings(config: Mapping[str, Any], backend: Backend, source: Path) -> dict[str, Any]:
    """A running model's configuration with its settings as they stand in the model's folder in the user's repository.

    Raises:
        BadConfiguration: If that is there no more.
    """
    path = source / CONFIG_FILE
    own = parse_pbtxt(_text(path), str(path)).get("parameters", {})
    names = {knob.name for knob in backend.knobs}
    kept = {name: entry for name, entry in config.get("parameters", {}).items() if name not in names}
    return {**config, "parameters": kept | {name: entry for name, entry in own.items() if name in names}}


def settings_of(config: Mapping[str, Any], backend: Backend) -> dict[str, Value]:
    """The settings a model's configuration tells, by knob name: those of this trial, and for engines all of them."""
    parameters = config.get("parameters")
    if not isinstance(parameters, dict):
        return {}
    found: dict[str, Value] = {}
    for knob in backend.knobs if not backend.settings_file else ():
        text = string_of(parameters, knob.name)
        if text and not text.startswith("${"):
            value = _typed(text, knob.kind)
            if knob.allows(value):
                found[knob.name] = value
    try:
        told = json.loads(string_of(parameters, SETTINGS_PARAMETER) or "{}")
    except (ValueError, RecursionError):
        told = {}
    allowed = {knob.name: knob for knob in backend.knobs}
    if isinstance(told, dict):
        found |= {name: value for name, value in told.items() if name in allowed and allowed[name].allows(value)}
    return found


def string_of(parameters: Mapping[str, Any], name: str) -> str:
    """A parameter's text, or an empty one."""
    entry = parameters.get(name)
    value = entry.get("string_value", "") if isinstance(entry, dict) else ""
    return value if isinstance(value, str) else ""


def copy_on_this_host(config: Mapping[str, Any], model: str) -> tuple[Path, Path]:
    """The model's folder in the user's repository and in the copy that trtune made, from what the server tells.

    What a server says is not trusted: only a folder whose own configuration names itself as trtune's copy is taken.

    Raises:
        BadConfiguration: If the server was not started on a copy of this host.
    """
    parameters = config.get("parameters")
    told = string_of(parameters, FOLDER_PARAMETER) if isinstance(parameters, dict) else ""
    path = Path(told) / model / CONFIG_FILE if told else None
    if path is not None and path.is_file() and Path(model).name == model:
        own = parse_pbtxt(_text(path), str(path))
        if string_of(own.get("parameters", {}), FOLDER_PARAMETER) == told:
            return Path(string_of(own["parameters"], SOURCE_PARAMETER)), path.parent
    raise BadConfiguration(
        f"the files of model {model!r} are not known: start Triton with trtune to change its settings"
    )


def _settings_text(text: str, source: Path, backend: Backend, params: Mapping[str, Value]) -> str:
    where = source / backend.settings_file
    settings = load_yaml(text, str(where), form="JSON" if where.suffix == ".json" else "YAML")
    if not isinstance(settings, dict):
        raise BadConfiguration(f"{where} is not a mapping of settings")
    knobs = {knob.name: knob for knob in backend.knobs}
    for name, value in params.items():
        if name not in SWITCHES:
            put(settings, name, structured(knobs[name], value))
    for switch in SWITCHES:
        owner = switch.rpartition(".")[0]
        if params.get(switch) is False:
            settings[owner] = None
        elif params.get(switch) is True and not isinstance(settings.get(owner), dict):
            settings[owner] = {}
    if where.suffix == ".json":
        return json.dumps(settings, indent=2) + "\n"
    return yaml.safe_dump(settings, sort_keys=True, default_flow_style=False)


def _word(value: Value) -> str:
    """A value as the C++ backend's parameters spell it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _typed(text: str, kind: str) -> Value:
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower())
    if kind == "choice":
        return text
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if kind == "int" and number.is_integer() else number


def _is_wanted(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def _text(path: Path) -> str:
    """A file's text.

    Raises:
        BadConfiguration: If it is too large, no text, or cannot be read.
    """
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise BadConfiguration(
                f"{path} is larger than {LARGEST_FILE_BYTES} bytes: keep engines outside the repository"
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"{path} cannot be copied: it is no text file, or cannot be read") from error
