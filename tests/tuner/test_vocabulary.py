"""Which token ids may be sent: those of the model on this host, where it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuner.server import vocabulary_of


def test_it_is_read_from_the_models_own_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 8192}))

    assert vocabulary_of(str(tmp_path)) == 8192


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"vocab_size": "many"}', '{"vocab_size": -1}', "\xff"])
def test_what_is_no_size_is_not_known(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")

    assert vocabulary_of(str(tmp_path)) == 0
    assert vocabulary_of("org/model") == 0
    assert vocabulary_of("") == 0
