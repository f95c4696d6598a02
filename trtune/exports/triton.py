"""Triton: the model's files with the winner's settings, without what trtune wrote into its own copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.triton import is_copy, portable_config
from trtune.errors import UsageError
from trtune.exports.winner import PBTXT

if TYPE_CHECKING:
    from trtune.exports.winner import Winner

SETTINGS_FILES = ("model.yaml", "model.json")


def config_pbtxt(winner: Winner) -> str:
    """The model's `config.pbtxt`.

    Raises:
        UsageError: If the trial had none.
    """
    return f"# {winner.note()}\n{portable_config(_file(winner, (PBTXT,)), PBTXT)}"


def model_yaml(winner: Winner) -> str:
    """The settings of the model's backend: `model.yaml` of TensorRT-LLM's LLM API, `model.json` of vLLM's.

    Raises:
        UsageError: If the trial had none.
    """
    text = _file(winner, SETTINGS_FILES)
    return text if text.lstrip().startswith("{") else f"# {winner.note()}\n{text}"


def _file(winner: Winner, wanted: tuple[str, ...]) -> str:
    """The file of the trial with one of these names; of several models, the one that carries the settings."""
    files = winner.trial.launch.get("files")
    found = [
        str(text)
        for name, text in (files.items() if isinstance(files, dict) else ())
        if name.rpartition("/")[2] in wanted
    ]
    if not found:
        raise UsageError(
            f"trial {winner.trial.number} was started without a {' or '.join(wanted)}; try --format command"
        )
    return next((text for text in found if is_copy(text)), found[0])
