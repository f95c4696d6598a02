"""Shapes of decoder-only language models: what their weights and KV cache weigh.

Read from a Hugging Face ``config.json`` or taken from a small table of well-known models. Shared by the simulated
engine and by the tuner's feasibility checks; only counting happens here, no timing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final


class ModelShapeError(ValueError):
    """A model's shape cannot be known: unknown name, missing or unusable ``config.json``."""


class Precision(StrEnum):
    """Element type of weights or of the KV cache."""

    BF16 = "bf16"
    FP8 = "fp8"
    INT4_AWQ = "int4-awq"
    NVFP4 = "nvfp4"
    INT8 = "int8"


BYTES_PER_ELEMENT: Final[dict[Precision, float]] = {
    Precision.BF16: 2.0,
    Precision.FP8: 1.0,
    Precision.INT4_AWQ: 0.5 + 2.0 / 128,  # one 16-bit scale for each group of 128
    Precision.NVFP4: 0.5 + 1.0 / 16,  # one 8-bit scale for each block of 16
    Precision.INT8: 1.0,
}
"""Bytes per element with the scales that belong to it."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Dimensions of a decoder-only transformer with grouped-query attention.

    Attributes:
        name: canonical name.
        layers: number of decoder layers.
        hidden_size: width of the residual stream.
        intermediate_size: width of one MLP (of one expert when there are experts).
        attention_heads: query heads.
        kv_heads: key and value heads.
        head_dim: width of one head.
        vocab_size: rows of the embedding.
        max_position_embeddings: longest sequence in tokens.
        experts: experts per layer, 1 for a dense model.
        experts_per_token: experts each token uses.
        tie_word_embeddings: whether the output head shares the input embedding.
    """

    name: str
    layers: int
    hidden_size: int
    intermediate_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    experts: int = 1
    experts_per_token: int = 1
    tie_word_embeddings: bool = False

    @property
    def attention_parameters_per_layer(self) -> int:
        """Parameters of the q, k, v and o projections of one layer."""
        heads = 2 * self.attention_heads + 2 * self.kv_heads
        return heads * self.head_dim * self.hidden_size

    @property
    def mlp_parameters_per_layer(self) -> int:
        """Parameters of one gated MLP, which is one expert in a mixture of experts."""
        return 3 * self.hidden_size * self.intermediate_size

    @property
    def linear_parameters(self) -> int:
        """Parameters of all layers' matrices, without embeddings and output head."""
        per_layer = self.attention_parameters_per_layer + self.experts * self.mlp_parameters_per_layer
        return self.layers * per_layer

    @property
    def active_linear_parameters(self) -> int:
        """The part of ``linear_parameters`` that one token multiplies with."""
        per_layer = self.attention_parameters_per_layer + self.experts_per_token * self.mlp_parameters_per_layer
        return self.layers * per_layer

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the input embedding and of the output head."""
        copies = 1 if self.tie_word_embeddings else 2
        return copies * self.vocab_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """All parameters that weigh anything; norms and biases are left out."""
        return self.linear_parameters + self.embedding_parameters

    def weight_bytes(self, precision: Precision) -> float:
        """Bytes of the weights over all GPUs; embeddings and output head stay in BF16, as checkpoints keep them."""
        return self.linear_parameters * BYTES_PER_ELEMENT[precision] + self.embedding_parameters * 2.0

    def kv_bytes_per_token(self, precision: Precision) -> float:
        """Bytes one token takes in the KV cache, over all layers and all GPUs."""
        return 2 * self.layers * self.kv_heads * self.head_dim * BYTES_PER_ELEMENT[precision]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as it lies on disk: its shape and the precision it was quantised to.

    Attributes:
        shape: dimensions.
        weight_precision: type of the layers' matrices.
        kv_precision: KV cache type the checkpoint asks for, in force when the server's KV dtype is ``auto``.
    """

    shape: ModelShape
    weight_precision: Precision = Precision.BF16
    kv_precision: Precision = Precision.BF16


_SHAPES: Final = (
    ModelShape("llama-3.1-8b", 32, 4096, 14336, 32, 8, 128, 128256, 131072),
    ModelShape("llama-3.2-1b", 16, 2048, 8192, 32, 8, 64, 128256, 131072, tie_word_embeddings=True),
    ModelShape("llama-3.2-3b", 28, 3072, 8192, 24, 8, 128, 128256, 131072, tie_word_embeddings=True),
    ModelShape("llama-3.1-70b", 80, 8192, 28672, 64, 8, 128, 128256, 131072),
    ModelShape("llama-3.3-70b", 80, 8192, 28672, 64, 8, 128, 128256, 131072),
    ModelShape("llama-3.1-405b", 126, 16384, 53248, 128, 8, 128, 128256, 131072),
    ModelShape("mistral-7b", 32, 4096, 14336, 32, 8, 128, 32768, 32768),
    ModelShape("mixtral-8x7b", 32, 4096, 14336, 32, 8, 128, 32000, 32768, experts=8, experts_per_token=2),
    ModelShape("qwen2.5-7b", 28, 3584, 18944, 28, 4, 128, 152064, 32768),
    ModelShape("qwen2.5-72b", 80, 8192, 29568, 64, 8, 128, 152064, 32768),
    ModelShape("qwen3-8b", 36, 4096, 12288, 32, 8, 128, 151936, 40960),
    ModelShape("qwen3-32b", 64, 5120, 25600, 64, 8, 128, 151936, 40960),
    ModelShape("qwen3-30b-a3b", 48, 2048, 768, 32, 4, 128, 151936, 40960, experts=128, experts_per_token=8),
    ModelShape("tinyllama-1.1b", 22, 2048, 5632, 32, 4, 64, 32000, 2048),
)

KNOWN_SHAPES: Final[dict[str, ModelShape]] = {shape.name: shape for shape in _SHAPES}
"""Well-known models by canonical name, from their published ``config.json``."""

_PRECISION_IN_NAME: Final = (
    (re.compile(r"mxfp4"), Precision.INT4_AWQ),  # 4-bit weights with small scales that any GPU can multiply with
    (re.compile(r"nvfp4|(?<![a-z])fp4"), Precision.NVFP4),
    (re.compile(r"fp8"), Precision.FP8),
    (re.compile(r"int8|w8a8|w8a16"), Precision.INT8),
    (re.compile(r"awq|int4|w4a16|gptq"), Precision.INT4_AWQ),
)

_PRECISION_OF_ALGORITHM: Final = {
    "fp8": Precision.FP8,
    "fp8_block_scales": Precision.FP8,
    "fp8_per_channel_per_token": Precision.FP8,
    "nvfp4": Precision.NVFP4,
    "w8a8_sq_per_channel": Precision.INT8,
    "w8a16": Precision.INT8,
    "w4a16_awq": Precision.INT4_AWQ,
    "w4a16_gptq": Precision.INT4_AWQ,
    "awq": Precision.INT4_AWQ,
    "gptq": Precision.INT4_AWQ,
}


_PRECISION_OF_BITS: Final[dict[tuple[int, str], Precision]] = {
    (8, "float"): Precision.FP8,
    (8, "int"): Precision.INT8,
    (4, "float"): Precision.NVFP4,
    (4, "int"): Precision.INT4_AWQ,
}
"""Precision by number of bits and kind."""

_UNQUANTISED: Final = frozenset({"", "none"})


def precision_from_name(name: str) -> Precision:
    """Return the weight precision a checkpoint name states, BF16 when it states none."""
    lowered = name.lower()
    for pattern, precision in _PRECISION_IN_NAME:
        if pattern.search(lowered):
            return precision
    return Precision.BF16


def find_shape(name: str) -> ModelShape:
    """Return the well-known shape a model name means.

    ``meta-llama/Llama-3.1-8B-Instruct`` and ``llama-3.1-8b`` mean the same.

    Raises:
        ModelShapeError: no well-known model is called so.
    """
    wanted = name.rsplit("/", 1)[-1].lower().replace("_", "-").replace("meta-", "")
    for known in sorted(KNOWN_SHAPES, key=len, reverse=True):
        if known in wanted:
            return KNOWN_SHAPES[known]
    raise ModelShapeError(
        f"model {name!r} is neither a folder with a config.json nor a known name: "
        f"give a folder or one of {', '.join(sorted(KNOWN_SHAPES))}"
    )


_NOT_COUNTED: Final = {
    "kv_lora_rank": "its KV cache is compressed (MLA)",
    "n_routed_experts": "only some of its layers have experts",
    "layers_block_type": "its layers are of several kinds",
    "hybrid_override_pattern": "its layers are of several kinds",
    "linear_num_value_heads": "its layers are of several kinds",
}
"""Keys of a ``config.json`` whose model weighs something else than this module would count, and why."""

_EVERY_NTH_LAYER: Final = ("interleave_moe_layer_step", "decoder_sparse_step")
"""Keys that tell which layers have experts: every one when 1."""


def _refuse_what_is_not_counted(config: dict[str, Any], source: str) -> None:
    why = next((text for key, text in _NOT_COUNTED.items() if config.get(key)), "")
    if not why and any(config.get(key, 1) not in (1, None) for key in _EVERY_NTH_LAYER):
        why = "only some of its layers have experts"
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and any("attention" not in str(kind) or "linear" in str(kind) for kind in kinds):
        why = why or "its layers are of several kinds"
    if why:
        raise ModelShapeError(f"{source}: what this model weighs is not known to trtune: {why}")


def _positive_int(config: dict[str, Any], key: str, source: str, default: int | None = None) -> int:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelShapeError(f"{source}: {key} must be a positive integer, not {value!r}")
    return value


def shape_from_config(config: dict[str, Any], source: str) -> ModelShape:
    """Build a shape from a parsed Hugging Face ``config.json``.

    Args:
        config: the parsed file.
        source: where it came from, named in errors.

    Raises:
        ModelShapeError: a needed number is missing or not positive, or the model is no plain transformer.
    """
    text = config.get("text_config")
    if isinstance(text, dict):  # multimodal models nest the language model
        config = {**config, **text}
    _refuse_what_is_not_counted(config, source)
    heads = _positive_int(config, "num_attention_heads", source)
    hidden = _positive_int(config, "hidden_size", source)
    experts_key = "num_local_experts" if "num_local_experts" in config else "num_experts"
    experts = _positive_int(config, experts_key, source, 1)
    intermediate_key = (
        "moe_intermediate_size" if experts > 1 and "moe_intermediate_size" in config else "intermediate_size"
    )
    return ModelShape(
        name=str(config.get("_name_or_path") or config.get("model_type") or "model"),
        layers=_positive_int(config, "num_hidden_layers", source),
        hidden_size=hidden,
        intermediate_size=_positive_int(config, intermediate_key, source),
        attention_heads=heads,
        kv_heads=_positive_int(config, "num_key_value_heads", source, heads),
        head_dim=_positive_int(config, "head_dim", source, max(1, hidden // heads)),
        vocab_size=_positive_int(config, "vocab_size", source),
        max_position_embeddings=_positive_int(config, "max_position_embeddings", source, 4096),
        experts=experts,
        experts_per_token=_positive_int(config, "num_experts_per_tok", source, 1),
        tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelShapeError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ModelShapeError(f"{path}: the top level must be an object")
    return parsed


def _quantization(folder: Path, config: dict[str, Any]) -> tuple[Precision, Precision]:
    """Read weight and KV precision from ``hf_quant_config.json`` (ModelOpt) or ``quantization_config``.

    Raises:
        ModelShapeError: it is quantised in a way that is not counted here.
    """
    modelopt = folder / "hf_quant_config.json"
    section: Any = config.get("quantization_config")
    if modelopt.is_file():
        section = _read_json(modelopt).get("quantization")
    if not isinstance(section, dict):
        return precision_from_name(folder.name), Precision.BF16
    algorithm = str(section.get("quant_algo") or section.get("quant_method") or "").lower()
    kv_algorithm = str(section.get("kv_cache_quant_algo") or "").lower()
    kv = _PRECISION_OF_ALGORITHM.get(kv_algorithm) or _precision_of_scheme(section.get("kv_cache_scheme"))
    weights = _PRECISION_OF_ALGORITHM.get(algorithm) or _precision_of_groups(section.get("config_groups"))
    if weights is None:
        weights = precision_from_name(algorithm)
        if algorithm not in _UNQUANTISED and weights is Precision.BF16:
            raise ModelShapeError(f"{folder}: what weights quantised by {algorithm!r} weigh is not known to trtune")
    return weights, kv or Precision.BF16


def _precision_of_scheme(scheme: object) -> Precision | None:
    """Precision that compressed-tensors and newer ModelOpt tell as bits and kind."""
    if not isinstance(scheme, dict):
        return None
    bits, kind = scheme.get("num_bits"), scheme.get("type")
    return _PRECISION_OF_BITS.get((bits, kind)) if isinstance(bits, int) and isinstance(kind, str) else None


def _precision_of_groups(groups: object) -> Precision | None:
    """Precision of the weights in the groups of compressed-tensors: the widest counts; None where one is not known."""
    if not isinstance(groups, dict) or not groups:
        return None
    found = [_precision_of_scheme(group.get("weights")) for group in groups.values() if isinstance(group, dict)]
    known = [precision for precision in found if precision is not None]
    return max(known, key=BYTES_PER_ELEMENT.__getitem__) if known and len(known) == len(found) else None


def load_checkpoint(model: str) -> Checkpoint:
    """Return the checkpoint a MODEL argument means: a local folder, or a model name.

    Raises:
        ModelShapeError: the folder has no usable ``config.json``, or the name is unknown.
    """
    folder = Path(model)
    if not folder.is_dir():
        return Checkpoint(find_shape(model), precision_from_name(model))
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise ModelShapeError(f"{folder}: no config.json in this model folder")
    config = _read_json(config_path)
    weights, kv = _quantization(folder, config)
    return Checkpoint(shape_from_config(config, str(config_path)), weights, kv)
