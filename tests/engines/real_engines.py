"""Engines nobody here wrote, each in an environment of its own under `.cache/`, and a model folder they can serve."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from engines.llamacpp_server.tiny_model import CHAT_TEMPLATE, SPECIAL_TOKENS, TinyShape, vocabulary

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "tests" / "requirements"
INSTALL_LIMIT_S = 1500.0


class CannotRun(Exception):
    """Why a real engine cannot be had here."""


def environment(name: str, *, check: str) -> Path:
    """The Python of an engine's environment, which is made once from `tests/requirements/NAME.txt`.

    Args:
        name: The engine.
        check: Statement that fails where the engine cannot run.

    Raises:
        CannotRun: If it cannot be installed, or the check fails.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise CannotRun(f"{name} has wheels for Linux on x86_64 only")
    folder = ROOT / ".cache" / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python, done = folder / "bin" / "python", folder / ".installed"
    wanted = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
    if not done.is_file() or done.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], name)
        pip = [sys.executable, "-m", "pip", f"--python={folder}", "install", "--quiet", "--no-deps", "--no-compile"]
        _run([*pip, "--requirement", str(REQUIREMENTS / f"{name}.txt")], name)
        done.write_text(wanted, encoding="utf-8")
    _run([str(python), "-c", check], name)
    return python


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
        raise CannotRun(f"{name} cannot be had: {' '.join(command[:4])} ... ended with {done.returncode}: {last}")


def write_model_folder(folder: Path, shape: TinyShape | None = None) -> Path:
    """A Hugging Face folder of a tiny llama without weights: for servers that make them up, or need none."""
    shape = shape or TinyShape()
    folder.mkdir(parents=True, exist_ok=True)
    tokens, merges = vocabulary(shape.vocabulary)
    texts = {
        "config.json": _config(shape, tokens),
        "tokenizer.json": _tokenizer(tokens, merges),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "chat_template": CHAT_TEMPLATE,
            "model_max_length": shape.context_tokens,
        },
        "generation_config.json": {"eos_token_id": tokens.index("<|im_end|>")},
    }
    for name, content in texts.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def _config(shape: TinyShape, tokens: list[str]) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context_tokens,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "eos_token_id": tokens.index("<|im_end|>"),
        "pad_token_id": tokens.index("<|endoftext|>"),
    }


def _tokenizer(tokens: list[str], merges: list[tuple[str, str]]) -> dict[str, object]:
    """A byte-level BPE as the library `tokenizers` writes it."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": tokens.index(token), "content": token, **special} for token in SPECIAL_TOKENS],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [list(pair) for pair in merges],
        },
    }


def quiet_environment() -> dict[str, str]:
    """Variables that keep a server of a model hub's library from asking the network."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
