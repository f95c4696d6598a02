"""Protobuf's text format as Triton's configurations use it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engines._triton_pbtxt import Word, dump_pbtxt, parse_pbtxt
from engines.errors import BadConfiguration

DATA = Path(__file__).parents[1] / "data" / "triton"
CONFIGS = sorted(DATA.rglob("config.pbtxt"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(DATA)))
def test_a_written_configuration_reads_the_same_also_as_yaml(path: Path) -> None:
    config = parse_pbtxt(path.read_text(), str(path))

    written = dump_pbtxt(config)

    assert parse_pbtxt(written, "written") == config
    assert isinstance(yaml.safe_load(written), dict)


def test_fields_have_the_shape_of_the_servers_json() -> None:
    text = """
    name: "m"  # a comment
    model_transaction_policy { decoupled: true }
    instance_group [ { count: 1, kind: KIND_CPU }, { count: 2 kind: KIND_GPU gpus: [0, 1] } ]
    parameters: { key: "a" value: { string_value: "x" "y" } }
    parameters { key: 'b' value { string_value: "q\\"uote" } };
    ratio: 0.5
    """

    assert parse_pbtxt(text, "config") == {
        "name": "m",
        "model_transaction_policy": {"decoupled": True},
        "instance_group": [{"count": 1, "kind": "KIND_CPU"}, {"count": 2, "kind": "KIND_GPU", "gpus": [0, 1]}],
        "parameters": {"a": {"string_value": "xy"}, "b": {"string_value": 'q"uote'}},
        "ratio": 0.5,
    }


def test_a_word_stays_a_word_and_a_text_a_text() -> None:
    assert dump_pbtxt({"kind": Word("KIND_CPU"), "name": "KIND_CPU"}) == 'kind: KIND_CPU\nname: "KIND_CPU"\n'


@pytest.mark.parametrize(
    "text",
    ["name: ", "name \x00", "a {", "a: [1, 2", "}", '"text"', "<html>", "a: %", "parameters: [1]", "a { " * 40],
)
def test_what_is_no_text_format_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadConfiguration, match="config") as raised:
        parse_pbtxt(text, "config")

    assert "\n" not in str(raised.value)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_and_never_fails_otherwise(text: str) -> None:
    with contextlib.suppress(BadConfiguration):
        assert isinstance(parse_pbtxt(text, "config"), dict)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=20)
NAMES = st.from_regex(r"[a-z_]{3,8}x", fullmatch=True)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**31), 2**31), TEXTS),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_what_is_written_is_read_back(config: dict[str, Any]) -> None:
    assert parse_pbtxt(dump_pbtxt(config), "config") == config
