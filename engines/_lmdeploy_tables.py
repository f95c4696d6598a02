"""Knobs and failure texts of LMDeploy (contract others 4, read from the 0.18.0 wheel; texts from its issue tracker).

Nothing here was run: no build of LMDeploy works without an accelerator.
"""

from __future__ import annotations

import re

from engines._common_failures import python_server_rules
from engines.failure import FailureRule
from engines.knob import Knob

BATCH_SIZES = (16, 32, 64, 128, 192, 256, 384, 512, 1024)
PARALLEL_SIZES = (1, 2, 4, 8)
MEMORY_SHARE = "cache-max-entry-count"
_TURBOMIND = {"backend": ("turbomind",)}
_PYTORCH = {"backend": ("pytorch",)}

KNOBS = (
    Knob("backend", "choice", "turbomind", choices=("turbomind", "pytorch"), coarse=True,
         help="Engine; a model that turbomind does not know is served by pytorch, which the log says."),
    Knob("tp", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True, searched=True,
         help="GPUs that share each layer."),
    Knob("dp", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True, help="Data-parallel copies."),
    Knob("max-batch-size", "int", None, 1, 8192, log=True, choices=BATCH_SIZES, searched=True,
         help="Most requests in one step; left out: by GPU."),
    Knob("session-len", "int", None, 16, 10_000_000, log=True, help="Most tokens of one request."),
    Knob(MEMORY_SHARE, "float", 0.8, 0.05, 0.98, choices=(0.6, 0.7, 0.8, 0.85, 0.9, 0.95), searched=True, both_ways=True,
         help="Share of the memory that is free after the weights, for the KV cache."),
    Knob("cache-block-seq-len", "choice", 64, choices=(32, 64, 128, 256), help="Tokens of one KV block."),
    Knob("enable-prefix-caching", "bool", False, searched=True, help="Reuse KV blocks of prompts that start alike."),
    Knob("quant-policy", "choice", 0, choices=(0, 4, 8), coarse=True, help="KV cache: 0 as the model, 4 int4, 8 int8."),
    Knob("max-prefill-token-num", "int", 8192, 64, 262_144, log=True, choices=(2048, 4096, 8192, 16384, 32768),
         searched=True, help="Token budget of a prefill."),
    Knob("num-tokens-per-iter", "int", 0, 0, 262_144, choices=(0, 512, 1024, 2048, 4096, 8192), requires=_TURBOMIND,
         help="Tokens of prompts in one step, so that prompts are split; 0: they are not."),
    Knob("max-prefill-iters", "int", 1, 1, 64, log=True, choices=(1, 2, 4, 8, 16), requires=_TURBOMIND,
         help="Steps a prompt may be split into."),
    Knob("eager-mode", "bool", False, requires=_PYTORCH, help="No CUDA graphs."),
    Knob("model-format", "choice", None, choices=(None, "hf", "awq", "gptq", "fp8", "mxfp4"), coarse=True,
         help="Format of the weights; left out: the checkpoint's."),
)  # fmt: skip

FAILURES = (
    FailureRule(
        "out_of_memory",
        re.compile(r"\[TM\]\[(?:ERROR|FATAL)\].*out of memory"),
        "GPU memory does not suffice: lower cache-max-entry-count or max-batch-size, or use more GPUs",
        (MEMORY_SHARE, "max-batch-size", "max-prefill-token-num", "tp"),
    ),
    FailureRule(
        "kv_too_small",
        re.compile(r"No enough (?:gpu )?memory|No enough blocks", re.IGNORECASE),
        "the KV cache is too small: raise cache-max-entry-count or lower session-len",
        (MEMORY_SHARE, "session-len"),
        fatal=False,
    ),
    *python_server_rules("LMDeploy", (MEMORY_SHARE, "max-batch-size", "max-prefill-token-num"), ("tp",)),
)
