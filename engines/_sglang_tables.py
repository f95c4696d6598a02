"""Knobs and failure texts of SGLang (contract others 2.3, read from the 0.5.23 wheel; texts from its issue tracker).

Nothing here was run: no build of SGLang works without an accelerator.
"""

from __future__ import annotations

import re

from engines._common_failures import python_server_rules
from engines.failure import FailureRule
from engines.knob import Knob

REQUESTS = (16, 32, 64, 96, 128, 192, 256, 384, 512, 1024, 2048)
BUDGETS = (1024, 2048, 4096, 8192, 16384, 32768)
PARALLEL_SIZES = (1, 2, 4, 8, 16)
MEMORY_SHARE = "mem-fraction-static"
GRAPH_BATCH = "cuda-graph-max-bs-decode"
POLICIES = ("fcfs", "lpm", "random", "dfs-weight", "lof", "priority", "routing-key", "hrrn", "shortest-prefill-first")

KNOBS = (
    Knob(MEMORY_SHARE, "float", None, 0.05, 0.98, choices=(0.75, 0.8, 0.85, 0.88, 0.9, 0.92), searched=True, both_ways=True,
         help="Share of the GPU's whole memory for weights and KV cache; left out: automatic."),
    Knob("max-running-requests", "int", None, 1, 8192, log=True, choices=REQUESTS, searched=True,
         help="Most requests that run at once; left out: automatic."),
    Knob("max-queued-requests", "int", None, 1, 1_000_000, log=True, help="Requests beyond it are refused."),
    Knob("max-total-tokens", "int", None, 64, 1_000_000_000, log=True, help="KV cache in tokens, instead of what fits."),
    Knob("chunked-prefill-size", "int", None, -1, 262_144, choices=(-1, *BUDGETS), searched=True,
         help="Most tokens of a prompt in one step; -1: prompts are not split; left out: by GPU."),
    Knob("max-prefill-tokens", "int", 16384, 64, 1_048_576, log=True, choices=BUDGETS,
         help="Token budget of a prefill batch."),
    Knob("schedule-policy", "choice", "fcfs", choices=POLICIES, searched=True,
         help="Whose turn it is; lpm pays only with shared prefixes."),
    Knob("schedule-conservativeness", "float", 1.0, 0.05, 5.0, choices=(0.3, 0.5, 0.8, 1.0, 1.3), searched=True,
         help="Below 1 packs more requests and retracts more of them."),
    Knob("page-size", "choice", None, choices=(None, 1, 16, 32, 64, 128), help="Tokens of one KV page."),
    Knob("tp-size", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True, searched=True,
         help="GPUs that share each layer; must divide the attention heads."),
    Knob("pp-size", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True, help="Pipeline stages."),
    Knob("dp-size", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True, help="Data-parallel copies."),
    Knob("ep-size", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True,
         help="GPUs the experts are dealt out to."),
    Knob("enable-dp-attention", "bool", False, coarse=True, requires={"dp-size": (2, 4, 8, 16)},
         help="Attention data-parallel, experts tensor-parallel: for MLA models."),
    Knob("kv-cache-dtype", "choice", "auto", choices=("auto", "bf16", "fp8_e5m2", "fp8_e4m3"), coarse=True,
         help="Data type of the KV cache."),
    Knob("quantization", "choice", None, choices=(None, "awq", "gptq", "fp8", "modelopt"), coarse=True,
         help="Quantisation of the weights; left out: the checkpoint's."),
    Knob("disable-radix-cache", "bool", False, help="No prefix caching."),
    Knob("enable-mixed-chunk", "bool", False, searched=True, help="Prefill chunks and decode in one batch."),
    Knob("disable-overlap-schedule", "bool", False, help="Do not schedule while the GPU works."),
    Knob("num-continuous-decode-steps", "int", 1, 1, 32, log=True, choices=(1, 2, 4, 8),
         help="Decode steps between two schedulings: throughput for TTFT."),
    Knob("stream-interval", "int", 1, 1, 128, log=True, choices=(1, 2, 4, 8, 16), help="Tokens per streamed chunk."),
    Knob(GRAPH_BATCH, "int", None, 1, 8192, log=True, choices=(32, 64, 128, 160, 256, 512),
         help="Largest decode batch with a CUDA graph; older releases: --cuda-graph-max-bs."),
    Knob("enable-torch-compile", "bool", False, help="Compile the model: for small batches; starts slowly."),
    Knob("attention-backend", "choice", None, choices=(None, "flashinfer", "fa3", "triton", "trtllm_mha"),
         help="Attention kernels."),
    Knob("enable-hierarchical-cache", "bool", False, help="KV cache in host memory behind the GPU's."),
    Knob("hicache-ratio", "float", 2.0, 0.1, 64.0, requires={"enable-hierarchical-cache": (True,)},
         help="Size of the host's KV cache as a multiple of the GPU's."),
    Knob("load-format", "choice", "auto", choices=("auto", "dummy"), help="dummy: random weights from config.json."),
)  # fmt: skip

FAILURES = (
    FailureRule(
        "out_of_memory",
        re.compile(r"Not enough memory\. Please try to increase --mem-fraction-static"),
        "nothing is left for the KV cache: raise mem-fraction-static or use more GPUs",
        (MEMORY_SHARE, "tp-size"),
    ),
    FailureRule(
        "out_of_memory",
        re.compile(r"Capture (?:cuda|CUDA) graph failed"),
        "GPU memory does not suffice for the CUDA graphs: lower mem-fraction-static or cuda-graph-max-bs-decode",
        (MEMORY_SHARE, GRAPH_BATCH),
    ),
    FailureRule(
        "gpu_busy",
        re.compile(r"The memory capacity is unbalanced"),
        "another process holds memory of one of the GPUs: end it, or choose other GPUs",
        infeasible=False,
    ),
    *python_server_rules("SGLang", (MEMORY_SHARE, "chunked-prefill-size", "max-running-requests"), ("tp-size",)),
    FailureRule(
        "worker_died",
        re.compile(r"Scheduler hit an exception|Received sigquit from a child process"),
        "a worker failed: the cause is in the log before this line",
        fatal=False,
    ),
)
