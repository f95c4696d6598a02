"""The options of ``vllm serve`` as data.

Source: the usage text captured from vLLM 0.24.0 and the flag table of the contract (others.md 1.3). Options that are not
simulated are accepted like the server accepts them and have no effect here.
"""

from __future__ import annotations

from typing import Final

WHOLE: Final = ("max-num-seqs", "max-num-batched-tokens", "max-model-len")
"""Numbers that may be written as ``8k`` or ``8K``."""

INTEGERS: Final = (
    "port", "tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "block-size",
    "num-gpu-blocks-override", "kv-cache-memory-bytes", "stream-interval", "max-cudagraph-capture-size", "seed",
    "long-prefill-token-threshold", "optimization-level", "api-server-count", "max-num-partial-prefills",
    "max-long-partial-prefills", "max-logprobs", "nnodes", "node-rank", "max-loras", "max-lora-rank",
    "decode-context-parallel-size", "max-num-queued-reqs",
)  # fmt: skip

FLOATS: Final = ("gpu-memory-utilization", "cpu-offload-gb", "kv-offloading-size", "swap-space", "watermark")

LISTS: Final = ("served-model-name", "cudagraph-capture-sizes", "lora-modules", "middleware", "api-key")
"""Options that take one word or more."""

SWITCHES: Final = (
    "enable-prefix-caching", "enable-chunked-prefill", "enforce-eager", "async-scheduling", "enable-expert-parallel",
    "trust-remote-code", "enable-log-requests", "disable-nccl-for-dp-synchronization", "enable-eplb",
    "disable-custom-all-reduce", "calculate-kv-scales", "kv-sharing-fast-prefill", "language-model-only",
    "skip-mm-profiling", "enable-lora", "fully-sharded-loras", "kv-cache-metrics", "cudagraph-metrics",
    "enable-mfu-metrics", "disable-chunked-mm-input", "scheduler-reserve-full-isl",
    "disable-hybrid-kv-cache-manager", "enable-flashinfer-autotune", "enable-sleep-mode", "enable-dbo",
    "skip-tokenizer-init", "disable-cascade-attn", "disable-sliding-window", "enable-auto-tool-choice",
    "enable-prompt-tokens-details", "enable-server-load-tracking", "enable-force-include-usage",
)  # fmt: skip
"""Options with a ``--no-`` form."""

PLAIN_SWITCHES: Final = (
    "disable-log-stats", "aggregate-engine-logging", "disable-uvicorn-access-log", "disable-log-requests", "headless",
)  # fmt: skip

TEXTS: Final = (
    "host", "model", "tokenizer", "load-format", "dtype", "quantization", "revision", "tokenizer-mode",
    "distributed-executor-backend", "scheduling-policy", "performance-mode", "attention-backend", "all2all-backend",
    "speculative-config", "spec-method", "spec-model", "spec-tokens", "compilation-config", "attention-config",
    "kernel-config", "additional-config", "structured-outputs-config", "profiler-config", "kv-transfer-config",
    "kv-events-config", "moe-backend", "linear-backend", "mamba-cache-dtype", "prefix-caching-hash-algo",
    "kv-offloading-backend", "chat-template", "reasoning-parser", "tool-call-parser", "uvicorn-log-level",
    "download-dir", "hf-overrides", "generation-config", "config", "limit-mm-per-prompt", "root-path",
    "chat-template-content-format", "max-parallel-loading-workers", "worker-cls", "shutdown-timeout",
    "show-hidden-metrics-for-version", "runner", "convert", "override-generation-config", "scheduler-cls",
)  # fmt: skip

CHOICES: Final = {
    "scheduling-policy": ("fcfs", "priority"),
    "performance-mode": ("balanced", "interactivity", "throughput"),
    "dtype": ("auto", "bfloat16", "float", "float16", "float32", "half"),
}

KV_CACHE_TYPES: Final = (
    "auto", "bfloat16", "float16", "fp8", "fp8_ds_mla", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "fp8_per_token_head",
    "int8_per_token_head", "nvfp4", "turboquant_3bit_nc", "turboquant_4bit_nc", "turboquant_k3v4_nc",
    "turboquant_k8v4",
)  # fmt: skip

SHORT: Final = {
    "tensor-parallel-size": "-tp",
    "pipeline-parallel-size": "-pp",
    "data-parallel-size": "-dp",
    "optimization-level": "-O",
    "quantization": "-q",
}

SIMULATED: Final = frozenset(
    {
        "host", "port", "model", "served-model-name", "config", "max-num-seqs", "max-num-batched-tokens",
        "max-model-len", "tensor-parallel-size", "pipeline-parallel-size", "block-size", "num-gpu-blocks-override",
        "kv-cache-memory-bytes", "kv-cache-dtype", "gpu-memory-utilization", "stream-interval",
        "cudagraph-capture-sizes", "max-cudagraph-capture-size", "enable-prefix-caching", "enable-chunked-prefill",
        "enforce-eager", "async-scheduling", "quantization", "disable-log-stats",
    }
)  # fmt: skip
"""Options that have an effect here."""
