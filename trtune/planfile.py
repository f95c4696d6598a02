"""Reads a plan: a TOML file, flags on top of it, and one clear line for every mistake in either."""

from __future__ import annotations

import difflib
import tomllib
from datetime import date, time
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from sessions.slo import BadSlo, Slo
from trtune.errors import UsageError
from tuner.load.lengths import DISTRIBUTIONS
from tuner.plan import KnobRange, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_UNION_TAGS = frozenset({"KnobRange", "bool", "int", "float", "str", "none", *DISTRIBUTIONS})
"""What pydantic puts into the place of an error to name the member of a union it tried; others hold a bracket."""

_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "int_parsing": "must be an integer",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "finite_number": "must be a finite number",
    "tuple_type": "must be a list",
    "too_short": "must hold at least {min_length}",
    "path_type": "must be a path",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a whole number, a list of them or a table",
    "union_tag_not_found": "needs {discriminator}",
    "union_tag_invalid": "must have one of {expected_tags} as its {discriminator}",
}

_LARGEST = (1 << 63) - 1
"""Beyond, an integer is none in TOML, nor in a session."""


DEFAULT_WORD = "default"
"""In a plan, as the value of a knob: left out, so that the server decides."""


def read_tables(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        UsageError: If it cannot be read or is not TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def set_fields(tables: dict[str, Any], settings: Sequence[str]) -> None:
    """Apply flags of the form `search.trials=8` to the tables; the value is written as in TOML.

    A value that is no TOML is taken for a text, so that `engine.model=llama` needs no quotes.

    Raises:
        UsageError: If a flag has no `=` or its path runs through a value.
    """
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--set {setting}: write FIELD=VALUE, for example search.trials=8")
        put(tables, name.strip(), toml_value(text.strip()))


def put(tables: dict[str, Any], name: str, value: object) -> None:
    """Set one field, given as a dotted path; knob names may hold dots themselves.

    Raises:
        UsageError: If the path runs through a value.
    """
    section, _, rest = name.partition(".")
    path = [section, rest] if section in ("knobs", "baseline") and rest else name.split(".")
    for part in path[:-1]:
        tables = tables.setdefault(part, {})
        if not isinstance(tables, dict):
            raise UsageError(f"{name}: {part} is a value, not a table")
    tables[path[-1]] = value


def make_plan(tables: Mapping[str, Any], where: str) -> Plan:
    """The plan that the tables describe.

    Args:
        tables: As read and changed by flags.
        where: What to name in an error: the file.

    Raises:
        UsageError: If a field is unknown, missing, or has a value that is not allowed.
    """
    if huge := next(_huge(tables, ""), None):
        raise UsageError(f"{where}: {huge} must be an integer of 64 bits")
    try:
        return Plan.model_validate(_with_slo_table(_flat_knobs(tables)))
    except BadSlo as error:
        raise UsageError(f"{where}: {error}") from error
    except ValidationError as error:
        raise UsageError(f"{where}: {_explain(error)}") from error


def toml_value(text: str) -> object:
    """A value of a flag, written as in TOML; what is no TOML is a text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _huge(value: object, field: str) -> Iterator[str]:
    """Fields with integers that no session can keep; Python's reader of TOML takes them."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        yield f"{field} = {value:.3g}"
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from _huge(each, f"{field}.{name}".lstrip("."))


def _flat_knobs(tables: Mapping[str, Any]) -> dict[str, Any]:
    """TOML reads `kv_cache_config.dtype = 1` as a nested table; knob names are dotted texts."""
    flat = dict(tables)
    for section in ("knobs", "baseline"):
        if isinstance(flat.get(section), dict):
            flat[section] = dict(_leaves(flat[section], ""))
    if isinstance(points := flat.get("starting_points"), list):
        flat["starting_points"] = [dict(_leaves(each, "")) if isinstance(each, dict) else each for each in points]
    return flat


def _own_default(value: object) -> object:
    """TOML has no word for «what the server does when it is told nothing»: a plan writes `"default"`."""
    if isinstance(value, list):
        return [_own_default(each) for each in value]
    return None if value == DEFAULT_WORD else value


def _with_slo_table(tables: dict[str, Any]) -> dict[str, Any]:
    """Turn the short form `[slo] ttft_p99_ms = 500` into `objective.slos`."""
    short = tables.pop("slo", {})
    if not isinstance(short, dict):
        raise BadSlo(f"slo = {_shown(short)} must be a table, such as [slo] with ttft_p99_ms = 500")
    slos = [Slo.from_field(name, value) for name, value in short.items()]
    objective = tables.get("objective", {})
    own = objective.get("slos", []) if isinstance(objective, dict) else None
    if not slos or not isinstance(own, list | tuple):  # what is no table, or no list, is left for the plan to refuse
        return tables
    return {
        **tables,
        "objective": {**objective, "slos": [*own, *(f"{slo.metric}:{slo.stat}:{slo.op}:{slo.value}" for slo in slos)]},
    }


def _leaves(table: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in table.items():
        inner = isinstance(value, dict) and not (value.keys() <= KnobRange.model_fields.keys())
        found += _leaves(value, f"{prefix}{name}.") if inner else [(f"{prefix}{name}", _own_default(value))]
    return found


def _explain(error: ValidationError) -> str:
    """The most telling of pydantic's complaints as one line: which field, what is wrong, what is allowed."""
    complaints = error.errors(include_url=False)
    told = next((each for each in complaints if "KnobRange" in str(each["loc"])), complaints[0])
    place = [str(part) for part in told["loc"] if str(part) not in _UNION_TAGS and "[" not in str(part)]
    field = ".".join(place)
    text = _WORDS.get(told["type"], told["msg"].removeprefix("Value error, "))
    text = text.format(**told.get("ctx", {})) if told["type"] in _WORDS else text
    if told["type"] == "extra_forbidden":
        return f"{field} {text}{_hint(place)}"
    if told["type"] == "value_error":
        return f"{field}: {text}" if field else text
    return f"{field} {text}" if told["type"] == "missing" else f"{field} = {_shown(told['input']):.60} {text}"


def _shown(value: object) -> str:
    """A value as a person wrote it, in TOML's words."""
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date | time) else repr(value)


def _hint(place: Sequence[str]) -> str:
    """What could have been meant by an unknown field."""
    fields = _fields_at(place[:-1])
    near = difflib.get_close_matches(place[-1], fields, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are: {', '.join(fields)}" if fields else ""


def _fields_at(place: Sequence[str]) -> list[str]:
    """Names of the fields of the model at a place in the plan."""
    model: type[BaseModel] = Plan
    for part in place:
        field = model.model_fields.get(part)
        kind = getattr(field, "annotation", None)
        members = (kind, *getattr(kind, "__args__", ()))
        found = next((each for each in members if isinstance(each, type) and issubclass(each, BaseModel)), None)
        if found is None:
            return []
        model = found
    return list(model.model_fields)
