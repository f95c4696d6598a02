"""Knobs of vLLM's server: flags of `vllm serve` without their dashes (contract others 1.3).

Names were checked against the usage text of 0.24.0 in the captured failure and, by the contract, against 0.33.0.
Every change is a restart.
"""

from __future__ import annotations

from engines.knob import Knob

BATCH_SIZES = (8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048)
TOKEN_BUDGETS = (512, 1024, 2048, 4096, 6144, 8192, 12288, 16384, 24576, 32768)
PARALLEL_SIZES = (1, 2, 4, 8, 16)
DEFAULT_BLOCK_TOKENS = 16

KV_TYPES = ("auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_per_token_head",
            "int8_per_token_head", "nvfp4")  # fmt: skip
QUANTISATIONS = (None, "awq", "gptq", "fp8", "modelopt", "compressed-tensors", "mxfp4")
_SPECULATED = {"spec-method": ("ngram", "suffix", "mtp")}

KNOBS = (
    Knob("max-num-seqs", "int", None, 1, 8192, log=True, choices=BATCH_SIZES, searched=True,
         help="Most requests in one step; left out: by GPU, 256 or 1024."),
    Knob("max-num-batched-tokens", "int", None, 32, 262_144, log=True, choices=TOKEN_BUDGETS, searched=True,
         help="Token budget of one step, prefill and decode together; left out: by GPU, 2048 to 16384."),
    Knob("gpu-memory-utilization", "float", 0.92, 0.05, 0.99, choices=(0.8, 0.85, 0.9, 0.92, 0.95), searched=True,
         both_ways=True,
         help="Share of the GPU's whole memory for weights, activations and KV cache; older releases: 0.90."),
    Knob("max-model-len", "int", None, 16, 10_000_000, log=True,
         help="Most tokens of one request, prompt and output; left out: the model's."),
    Knob("tensor-parallel-size", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True, searched=True,
         help="GPUs that share each layer; must divide the attention heads."),
    Knob("pipeline-parallel-size", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True,
         help="Stages the layers are dealt out to."),
    Knob("data-parallel-size", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True,
         help="Copies of the engine behind one address."),
    Knob("decode-context-parallel-size", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True,
         help="Ranks that share one request's KV cache in decode."),
    Knob("enable-expert-parallel", "bool", False, coarse=True,
         help="Deal experts out to the ranks instead of cutting each one."),
    Knob("enable-dbo", "bool", False, help="Two micro-batches, so that communication overlaps compute (MoE)."),
    Knob("enable-chunked-prefill", "bool", True, searched=True,
         help="Split prompts that do not fit the rest of the token budget."),
    Knob("enable-prefix-caching", "bool", True, help="Reuse KV blocks of prompts that start alike."),
    Knob("long-prefill-token-threshold", "int", 0, 0, 1_048_576,
         help="A prompt longer than this counts as long in chunked prefill; 0: none does."),
    Knob("scheduling-policy", "choice", "fcfs", choices=("fcfs", "priority"), help="Whose turn it is."),
    Knob("async-scheduling", "bool", None, help="Schedule the next step while the GPU works; left out: automatic."),
    Knob("stream-interval", "int", 1, 1, 128, log=True, choices=(1, 2, 4, 8, 16),
         help="Tokens per streamed chunk: more saves host time and makes gaps look longer."),
    Knob("kv-cache-dtype", "choice", "auto", choices=KV_TYPES, coarse=True,
         help="Data type of the KV cache; fp8 needs Ada or newer."),
    Knob("block-size", "choice", None, choices=(None, 16, 32, 64, 128), help="Tokens of one KV block."),
    Knob("num-gpu-blocks-override", "int", None, 1, 100_000_000, log=True,
         help="Number of KV blocks, instead of what fits: the same in every trial."),
    Knob("kv-cache-memory-bytes", "int", None, 2**20, 2**44, log=True,
         help="KV cache of each GPU in bytes, instead of gpu-memory-utilization."),
    Knob("kv-offloading-size", "float", None, 0.0, 65_536.0, help="Host memory for KV blocks in GiB, all ranks."),
    Knob("cpu-offload-gb", "float", 0.0, 0.0, 4096.0, help="Weights kept in host memory in GiB, for each GPU."),
    Knob("enforce-eager", "bool", False, help="No CUDA graphs and no compilation: starts fast and runs slower."),
    Knob("max-cudagraph-capture-size", "int", None, 1, 8192, log=True, choices=(64, 128, 256, 512, 1024),
         requires={"enforce-eager": (False,)}, help="Largest batch with a CUDA graph; left out: automatic."),
    Knob("optimization-level", "int", 2, 0, 3, choices=(0, 1, 2, 3), help="Compilation effort."),
    Knob("performance-mode", "choice", "balanced", choices=("balanced", "interactivity", "throughput"),
         help="Moves several defaults at once."),
    Knob("attention-backend", "choice", None,
         choices=(None, "FLASH_ATTN", "FLASHINFER", "TRITON_ATTN", "FLEX_ATTENTION"), help="Attention kernels."),
    Knob("dtype", "choice", "auto", choices=("auto", "bfloat16", "float16", "float32"), coarse=True,
         help="Data type of the weights."),
    Knob("quantization", "choice", None, choices=QUANTISATIONS, coarse=True,
         help="Quantisation of the weights; left out: the checkpoint's. fp8 on an unquantised one alters the model."),
    Knob("spec-method", "choice", None, choices=(None, "ngram", "suffix", "mtp"),
         help="Speculative decoding without a model of its own."),
    Knob("spec-tokens", "int", None, 1, 32, choices=(1, 2, 3, 4, 5, 8), requires=_SPECULATED,
         help="Tokens guessed in each step."),
    Knob("load-format", "choice", "auto", choices=("auto", "dummy", "safetensors"),
         help="dummy: random weights made from config.json, for speed tests without a checkpoint."),
)  # fmt: skip
