"""What lines in a vLLM log mean, from specific to generic.

Captured from 0.24.0: KV memory, context length, world size, unknown flag, failed core. The others are texts of its
sources (`vllm/v1/core/kv_cache_utils.py`, `vllm/v1/worker/utils.py`, `vllm/config/scheduler.py`, `vllm/config/model.py`,
`vllm/v1/worker/gpu_worker.py`); those nobody has provoked here are matched
loosely. The last lines of a failed start are generic: the telling one is in the middle.
"""

from __future__ import annotations

import re

from engines._common_failures import python_server_rules
from engines.failure import FailureRule

MEMORY_SHARE = "gpu-memory-utilization"
LENGTH = "max-model-len"
SEQUENCES = "max-num-seqs"
BUDGET = "max-num-batched-tokens"
TENSOR = "tensor-parallel-size"

FAILURES = (
    FailureRule(
        "out_of_memory",
        re.compile(r"No available memory for the cache blocks"),
        "nothing is left for the KV cache: raise gpu-memory-utilization, lower max-num-batched-tokens, or use more GPUs",
        (MEMORY_SHARE, BUDGET, TENSOR, SEQUENCES),
    ),
    FailureRule(
        "kv_too_small",
        re.compile(r"To serve at least one request with the model\S* max seq len \((?P<length>\d+)\)"),
        "the KV cache does not hold one request of {length} tokens: lower max-model-len or raise gpu-memory-utilization",
        (LENGTH, MEMORY_SHARE, "kv-cache-dtype", TENSOR),
    ),
    FailureRule(
        "gpu_busy",
        re.compile(r"Free memory on device .*is less than desired GPU memory utilization"),
        "another process holds GPU memory: end it, or lower gpu-memory-utilization",
        (MEMORY_SHARE,),
        infeasible=False,
    ),
    FailureRule(
        "out_of_memory",
        re.compile(r"CUDA out of memory occurred when warming up"),
        "GPU memory does not suffice for the warm-up: lower max-num-seqs or gpu-memory-utilization",
        (SEQUENCES, MEMORY_SHARE),
    ),
    FailureRule(
        "bad_config",
        re.compile(r"User-specified max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len"),
        "max-model-len {asked} is more than the model's context: lower it",
        (LENGTH,),
    ),
    FailureRule(
        "bad_config",
        re.compile(r"World size \((?P<asked>\d+)\) is larger than the number of available GPUs \((?P<there>\d+)\)"),
        "{asked} GPUs are asked for and {there} are there: lower the parallel sizes",
        (TENSOR, "pipeline-parallel-size", "data-parallel-size"),
    ),
    FailureRule(
        "bad_config",
        re.compile(r"attention heads \(\d+\) must be divisible by tensor parallel size \((?P<size>\d+)\)"),
        "tensor-parallel-size {size} does not divide the model's attention heads: choose a divisor",
        (TENSOR,),
    ),
    FailureRule(
        "bad_config",
        re.compile(r"max_num_batched_tokens \((?P<budget>\d+)\) is smaller than max_model_len"),
        "max-num-batched-tokens {budget} is less than max-model-len: raise it, or turn chunked prefill on",
        (BUDGET, "enable-chunked-prefill", LENGTH),
    ),
    FailureRule(
        "bad_config",
        re.compile(r"max_num_batched_tokens \((?P<budget>\d+)\) must be greater than or equal to max_num_seqs"),
        "max-num-batched-tokens {budget} is less than max-num-seqs: each request needs a token of the budget",
        (BUDGET, SEQUENCES),
    ),
    FailureRule(
        "unsupported",
        re.compile(r"quantization method (?P<method>\S+) is not supported for the current GPU"),
        "this GPU cannot run the quantisation {method}: choose another",
        ("quantization",),
    ),
    FailureRule(
        "missing_program",
        re.compile(r"No package metadata was found for vllm"),
        "this build of vLLM has no `vllm` command: set command to python -m vllm.entrypoints.openai.api_server",
        infeasible=False,
    ),
    *python_server_rules("vLLM", (BUDGET, SEQUENCES, MEMORY_SHARE), (TENSOR,)),
    FailureRule(
        "bad_config",
        re.compile(r"validation errors? for (?P<model>\w*Config|\w*Args)"),
        "vLLM refuses a value of {model}: the lines after it in the log name the setting",
        fatal=False,
    ),
    FailureRule(
        "worker_died",
        re.compile(r"Engine core initialization failed|EngineCore failed to start"),
        "the engine process failed at start: the cause is in the log before this line",
    ),
    FailureRule(
        "died",
        re.compile(r"EngineCore encountered a fatal error|EngineDeadError"),
        "the engine process died: the cause is in the log before this line",
        (BUDGET, SEQUENCES, MEMORY_SHARE),
    ),
)
