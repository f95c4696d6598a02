"""How much memory a configuration needs on each GPU, and how many tokens its KV cache will hold.

An estimate from the model's shape alone. Of activations and of what a server allocates for itself it knows the usual sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from engines.models import BYTES_PER_ELEMENT
from tuner.search.problem import Meaning
from tuner.search.settings import PRECISIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.models import ModelShape
    from tuner.search.problem import Hardware
    from tuner.search.settings import Settings

_CONTEXT_BYTES: Final = 1.1e9
"""CUDA context, library workspaces and the process's own allocations."""

_PEER_BYTES: Final = 0.9e9
"""Communicators and all-reduce buffers once there is more than one GPU."""

_EXECUTOR_BYTES: Final = 0.45e9
"""What a server allocates after the KV cache: page tables, sampler state."""

_SAMPLER_BYTES_PER_LOGIT: Final = 0.5
_GRAPH_BYTES_PER_LAYER: Final = 0.55e6
_ACTIVATION_SPARE: Final = 1.25
_ELEMENT_BYTES: Final = np.array([BYTES_PER_ELEMENT[precision] for precision in PRECISIONS])

DEFAULT_BATCH: Final = 256.0
DEFAULT_TOKEN_BUDGET: Final = 8192.0
DEFAULT_GRAPH_BATCH: Final = 128.0
DEFAULT_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Per configuration, on each of its GPUs.

    Attributes:
        weight_bytes: Weights.
        free_bytes: What is left for the KV cache once weights and activations lie there; negative when they do not fit.
        spare_bytes: What is left when the KV cache has its share, less what the server needs then.
        kv_tokens: Tokens the KV cache holds, over all GPUs.
        kv_bytes_per_token: Bytes of one token on one GPU.
    """

    weight_bytes: NDArray[np.float64]
    free_bytes: NDArray[np.float64]
    spare_bytes: NDArray[np.float64]
    kv_tokens: NDArray[np.float64]
    kv_bytes_per_token: NDArray[np.float64]


def element_bytes(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bytes per element of a column of precisions."""
    return _ELEMENT_BYTES[precision.astype(np.int64)]


def estimate_memory(settings: Settings, shape: ModelShape, hardware: Hardware) -> MemoryEstimate:
    """Lay out one GPU's memory for every configuration.

    Args:
        settings: The configurations; `WEIGHT_PRECISION` and `KV_PRECISION` default to BF16.
        shape: The model.
        hardware: The GPUs.
    """
    tp, pp = settings.get(Meaning.TENSOR_PARALLEL, 1), settings.get(Meaning.PIPELINE_PARALLEL, 1)
    shards = tp * pp
    batch = settings.get(Meaning.BATCH, DEFAULT_BATCH)
    budget = settings.get(Meaning.TOKEN_BUDGET, DEFAULT_TOKEN_BUDGET)
    per_element = element_bytes(settings.get(Meaning.WEIGHT_PRECISION, 0))
    weights = (shape.linear_parameters * per_element + shape.embedding_parameters * 2.0) / shards
    # Under attention data-parallelism each rank holds all attention weights, and whole KV heads of its own requests.
    alone = settings.get(Meaning.ATTENTION_DP, 0) > 0
    attention = shape.layers * shape.attention_parameters_per_layer * per_element
    weights = weights + np.where(alone, attention * (1 / pp - 1 / shards), 0.0)
    free = hardware.gpu.hbm_bytes - _CONTEXT_BYTES - np.where(shards > 1, _PEER_BYTES, 0.0) - weights
    free = free - _activations(shape, tp, batch, budget) - _graphs(settings, shape, pp, batch)
    copies = np.where(alone, 1.0, np.maximum(1.0, tp / shape.kv_heads))
    kv_element = element_bytes(settings.get(Meaning.KV_PRECISION, 0))
    per_token = 2.0 * shape.layers * shape.kv_heads * shape.head_dim * kv_element * copies / shards
    if settings.has(Meaning.TOTAL_MEMORY_SHARE):
        share = settings.get(Meaning.TOTAL_MEMORY_SHARE, DEFAULT_SHARE)
        kv_bytes = free - (1 - share) * hardware.gpu.hbm_bytes
    else:
        kv_bytes = free * settings.get(Meaning.FREE_MEMORY_SHARE, DEFAULT_SHARE)
    kv_bytes = np.minimum(kv_bytes, settings.get(Meaning.KV_TOKENS, np.inf) * per_token)
    after = _EXECUTOR_BYTES + batch * shape.vocab_size * _SAMPLER_BYTES_PER_LOGIT / tp
    return MemoryEstimate(weights, free, free - kv_bytes - after, np.maximum(kv_bytes, 0.0) / per_token, per_token)


def _activations(
    shape: ModelShape, tp: NDArray[np.float64], batch: NDArray[np.float64], budget: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Peak of a forward pass over a full token budget in BF16, with the logits of a full batch in FP32."""
    heads = (shape.attention_heads + 2 * shape.kv_heads) * shape.head_dim
    widths = 3 * shape.hidden_size + (heads + 2 * shape.intermediate_size * shape.experts_per_token) / tp
    logits = np.minimum(batch, budget) * shape.vocab_size * 4.0 / tp
    return _ACTIVATION_SPARE * budget * 2.0 * widths + logits


def _graphs(
    settings: Settings, shape: ModelShape, pp: NDArray[np.float64], batch: NDArray[np.float64]
) -> NDArray[np.float64]:
    """CUDA graphs: about one per eight requests with padding, and one per size up to 32 without (contract trtllm 5.4)."""
    on = (settings.get(Meaning.GRAPHS, 1) > 0) & (settings.get(Meaning.EAGER, 0) == 0)
    largest = np.minimum(settings.get(Meaning.GRAPH_BATCH, DEFAULT_GRAPH_BATCH), batch)
    padded = 4 + np.minimum(largest, 128) / 8 + np.maximum(largest - 128, 0) / 64
    single = np.minimum(largest, 32) + 4
    count = np.where(settings.get(Meaning.GRAPH_PADDING, 0) > 0, padded, single)
    return np.where(on, count, 0.0) * _GRAPH_BYTES_PER_LAYER * shape.layers / pp
