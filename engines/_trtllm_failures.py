"""What lines in a TensorRT-LLM log mean, from specific to generic (contract trtllm 8.1 and 8.2).

Texts marked unverified there are matched loosely and do not end a start early.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engines._trtllm_speculation_knobs import DRAFT_LENGTH, METHOD
from engines._trtllm_versioned import COMPILE_ON, GRAPH_BATCH_SIZE, GRAPHS_ON
from engines.failure import FailureRule

KV_SHARE = "kv_cache_config.free_gpu_memory_fraction"


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the executor that can run out of memory when it is made, and what upstream advises then."""

    pattern: str
    advice: str
    accuses: tuple[str, ...]


COMPONENTS = (
    Component(
        "Initial KV cache",
        "lower max_num_tokens",
        ("max_num_tokens", "max_batch_size", "tensor_parallel_size"),
    ),
    Component(
        "Additional executor resources",
        "lower max_num_tokens, or capture smaller CUDA graphs",
        ("max_num_tokens", "max_batch_size", GRAPH_BATCH_SIZE, KV_SHARE),
    ),
    Component("KV cache", "lower kv_cache_config.free_gpu_memory_fraction", (KV_SHARE, "max_seq_len")),
    Component("Sampler", "lower max_seq_len or max_batch_size", ("max_seq_len", "max_batch_size")),
    Component("Drafter", f"lower max_seq_len or {DRAFT_LENGTH}", ("max_seq_len", DRAFT_LENGTH)),
    Component("Guided decoder", "lower max_batch_size", ("max_batch_size",)),
    Component(
        "Draft Model|Draft model",
        "take a smaller draft model or none, or spread the weights over more GPUs",
        (METHOD, "tensor_parallel_size", "max_num_tokens"),
    ),
    Component("Model resources created during usage", "lower max_num_tokens", ("max_num_tokens", "max_batch_size")),
    Component(
        "Model",
        "lower max_num_tokens, or spread the weights over more GPUs",
        ("tensor_parallel_size", "max_num_tokens", "pipeline_parallel_size"),
    ),
)


def _component_rule(component: Component) -> FailureRule:
    return FailureRule(
        "out_of_memory",
        re.compile(rf"component could not be created: (?P<component>{component.pattern})"),
        "GPU memory does not suffice for: {component}; " + component.advice,
        component.accuses,
    )


FAILURES = (
    *(_component_rule(component) for component in COMPONENTS),
    FailureRule(
        "out_of_memory",
        re.compile(r"Executor creation failed due to insufficient GPU memory"),
        "GPU memory does not suffice: lower max_num_tokens, max_batch_size or the KV cache's share",
        ("max_num_tokens", "max_batch_size", KV_SHARE, "tensor_parallel_size"),
    ),
    FailureRule(
        "bad_config",
        re.compile(r"Extra inputs are not permitted|extra_forbidden"),
        "this version does not know a key of the YAML: leave it out (the log names it) or update the server",
    ),
    FailureRule(
        "bad_config",
        re.compile(r"validation errors? for (?P<model>\w*Args|\w+Config)"),
        "the server refuses a value of {model}: the lines after it in the log name the key",
    ),
    FailureRule(
        "bad_config",
        re.compile(r"Configuration file root must be a mapping"),
        "the configuration file is not a mapping of settings: write `key: value` lines",
        infeasible=False,
    ),
    FailureRule(
        "bad_config",
        re.compile(r"Invalid value for '?--backend'?: '?(?:tensorrt|trt)\b"),
        "this version has no engine backend any more: use the engine trtllm (PyTorch), or 1.3.0rc20 at the newest",
        infeasible=False,
    ),
    FailureRule(
        "bad_config",
        re.compile(r"Error: (?P<what>No such (?:option|command)|Invalid value for|Got unexpected extra argument).*"),
        "trtllm-serve refuses its command line ({what}): correct the plan's arguments",
        infeasible=False,
    ),
    FailureRule(
        "no_gpu",
        re.compile(r"No GPU devices found on the node|no CUDA-capable device is detected"),
        "the server finds no GPU: start it on a host with one, or check the container's GPU access",
        infeasible=False,
    ),
    FailureRule(
        "too_few_gpus",
        re.compile(r"world_size \(?(?P<wanted>\d+)\)?.*(?:exceed|larger|greater|more).*(?:GPU|device)", re.IGNORECASE),
        "the settings ask for {wanted} GPUs, and there are fewer: lower tensor or pipeline parallelism",
        ("tensor_parallel_size", "pipeline_parallel_size", "context_parallel_size"),
    ),
    FailureRule(
        "port_in_use",
        re.compile(r"Failed to bind socket to \S*:(?P<port>\d+)\b"),
        "the server's port is taken (port {port}): stop what listens there, or wait a minute for it to be freed",
        infeasible=False,
    ),
    FailureRule(
        "port_in_use",
        re.compile(r"[Aa]ddress already in use"),
        "the server's port is taken: stop what listens there, or wait a minute for it to be freed",
        infeasible=False,
    ),
    FailureRule(
        "kv_too_small",
        re.compile(
            r"(?:attention window|max_seq_len)\D.*(?:exceed|larger|greater|not fit|too large).*KV cache", re.IGNORECASE
        ),
        "the KV cache does not hold one sequence: lower max_seq_len, or raise the KV cache's share",
        ("max_seq_len", KV_SHARE, "kv_cache_config.max_tokens"),
        fatal=False,
    ),
    FailureRule(
        "out_of_memory",
        re.compile(r"torch\.(?:cuda\.)?OutOfMemoryError|CUDA out of memory|CUDA error: out of memory"),
        "GPU memory does not suffice: lower max_num_tokens, max_batch_size or the KV cache's share",
        ("max_num_tokens", "max_batch_size", KV_SHARE, "tensor_parallel_size"),
        fatal=False,
    ),
    FailureRule(
        "out_of_memory",
        re.compile(r"CUDA runtime error in .*out of memory"),
        "GPU memory does not suffice: lower the KV cache's share or max_num_tokens",
        (KV_SHARE, "max_num_tokens", "max_batch_size"),
        fatal=False,
    ),
    FailureRule(
        "nccl",
        re.compile(r"Executor creation failed with NCCL error|Failed, NCCL error|unhandled cuda error"),
        "the GPUs could not be joined, often for want of memory: lower max_num_tokens, or allreduce_strategy NCCL",
        ("max_num_tokens", KV_SHARE, "allreduce_strategy", "tensor_parallel_size"),
        fatal=False,
    ),
    FailureRule(
        "compile_failed",
        re.compile(r"torch\._dynamo\.exc|torch\._inductor\.exc|BackendCompilerFailed"),
        f"torch.compile does not take this model: set {COMPILE_ON} to false",
        (COMPILE_ON, "prefill_cuda_graph_backend"),
        fatal=False,
    ),
    FailureRule(
        "graph_capture",
        re.compile(
            r"operation not permitted when stream is capturing|CUDAGraph.*(?:capture|Capture) failed|cudaErrorStreamCapture"
        ),
        "a CUDA graph could not be captured: capture smaller batches, or none",
        (GRAPH_BATCH_SIZE, GRAPHS_ON, "prefill_cuda_graph_backend"),
        fatal=False,
    ),
    FailureRule(
        "unsupported",
        re.compile(
            r"no kernel image is available|(?:not supported|[Uu]nsupported).*\bSM ?_?\d+|\bSM ?_?\d+.*not supported"
        ),
        "this GPU has no kernel for these settings: change the data type or the backend",
        ("moe_config.backend", "kv_cache_config.dtype", "attn_backend", "dtype"),
        fatal=False,
    ),
    FailureRule(
        "unsupported",
        re.compile(r"Unknown architecture for AutoModelForCausalLM"),
        "this version does not know the model's architecture: choose another model or a newer server",
        infeasible=False,
    ),
    FailureRule(
        "bad_model",
        re.compile(
            r"RepositoryNotFoundError|GatedRepoError|Repository Not Found|is not a local folder and is not a valid"
        ),
        "the model cannot be fetched: check its name, the path, and the access token in the environment",
        infeasible=False,
    ),
    FailureRule(
        "shared_memory",
        re.compile(r"[Bb]us error|unable to (?:open|allocate) shared memory|No space left on device.*shm"),
        "shared memory is too small: give the container host IPC and raise its memlock and stack limits",
        infeasible=False,
        fatal=False,
    ),
    FailureRule(
        "prompt_too_long",
        re.compile(r"should not exceed max_num_tokens \((?P<limit>\d+)\)"),
        "prompts are longer than max_num_tokens {limit}: turn enable_chunked_prefill on or raise max_num_tokens",
        ("enable_chunked_prefill", "max_num_tokens"),
        fatal=False,
    ),
    FailureRule(
        "hung",
        re.compile(r"[Hh]ang detect(?:ed|or)\b.*(?:iteration|stall|timeout|timed out|no progress)"),
        "the executor made no step for minutes: see the stacks in the log; allreduce_strategy NCCL helps without P2P",
        ("allreduce_strategy", "disable_overlap_scheduler"),
        fatal=False,
    ),
    FailureRule(
        "rank_died",
        re.compile(r"Executor loop crashed on this rank|hard-killing all \d+ ranks"),
        "a rank of the executor crashed and took the others along: see the traceback before it in the log",
        ("max_num_tokens", "max_batch_size", KV_SHARE),
    ),
    FailureRule(
        "worker_died",
        re.compile(r"Executor worker died during initialization"),
        "a worker process died at start, often killed for host memory: see the log and the kernel's",
        ("tensor_parallel_size", GRAPHS_ON, "kv_cache_config.host_cache_size"),
    ),
    FailureRule(
        "worker_error",
        re.compile(r"Executor worker returned error"),
        "a worker failed at start: the cause is in the log before this line",
    ),
)
