"""``LlmArgs`` as far as it is imitated: every known key with its type and default, unknown keys refused.

Source: contract section 5 (upstream ``tensorrt_llm/llmapi/llm_args.py``). The class is called ``TorchLlmArgs`` because that
name appears in the server's error text. Keys that are not simulated are accepted, validated and have no effect.
"""

from __future__ import annotations

from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from engines.simulated.trtllm.versions import V1_1, V1_2, V1_3, V1_3_LATE, ServerVersion


class StrictModel(BaseModel):
    """Refuses unknown keys, as every ``LlmArgs`` model does."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class KvCacheConfig(StrictModel):
    """``kv_cache_config`` (contract section 5.2)."""

    free_gpu_memory_fraction: float | None = Field(default=0.9, ge=0.0, le=1.0)
    max_tokens: int | None = Field(default=None, ge=1)
    max_gpu_total_bytes: int = Field(default=0, ge=0)
    dtype: Literal["auto", "fp8", "nvfp4", "fp8_ds_mla", "float16", "bfloat16", "float32"] = "auto"
    enable_block_reuse: bool = True
    enable_partial_reuse: bool = True
    copy_on_partial_reuse: bool = True
    tokens_per_block: int = Field(default=32, ge=1)
    host_cache_size: int | None = None
    secondary_offload_min_priority: int | None = None
    max_attention_window: list[int] | None = None
    event_buffer_max_size: int = Field(default=0, ge=0)
    attention_dp_events_gather_period_ms: int = 5
    cross_kv_cache_fraction: float | None = None
    use_uvm: bool = False
    iteration_stats_interval: int = Field(default=1, ge=1)
    use_kv_cache_manager_v2: bool | Literal["auto"] = "auto"
    disk_cache_size: int | None = None
    disk_cache_path: str | None = None
    mamba_ssm_cache_dtype: str = "auto"
    sink_token_length: int | None = None
    avg_seq_len: int | None = None
    enable_kv_pool_rebalance: bool = False
    max_util_for_resume: float = 0.95
    fp8_context_mla_kv_len_cap: int | None = None


class DynamicBatchConfig(StrictModel):
    """``scheduler_config.dynamic_batch_config``; the PyTorch backend ignores it."""

    enable_batch_size_tuning: bool = True
    enable_max_num_tokens_tuning: bool = False
    dynamic_batch_moving_average_window: int = 128


class SchedulerConfig(StrictModel):
    """``scheduler_config`` (contract section 5.1)."""

    capacity_scheduler_policy: Literal["GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH"] = "GUARANTEED_NO_EVICT"
    context_chunking_policy: Literal["FIRST_COME_FIRST_SERVED", "EQUAL_PROGRESS", "FORCE_CHUNK"] | None = None
    dynamic_batch_config: DynamicBatchConfig | None = None
    waiting_queue_policy: Literal["fcfs", "priority"] = "fcfs"
    use_python_scheduler: bool = False
    enable_prefix_aware_scheduling: bool = True


class CudaGraphConfig(StrictModel):
    """``cuda_graph_config`` (contract section 5.4)."""

    batch_sizes: list[int] | None = None
    max_batch_size: int = Field(default=0, ge=0)
    enable_padding: bool = False

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if self.batch_sizes and self.max_batch_size not in (0, max(self.batch_sizes)):
            raise ValueError(
                "If both cuda_graph_config.max_batch_size and cuda_graph_config.batch_sizes are specified, "
                "max_batch_size must be equal to max(batch_sizes)"
            )
        return self


class TorchCompileConfig(StrictModel):
    """``torch_compile_config``; accepted, not simulated."""

    enable_fullgraph: bool = True
    enable_inductor: bool = False
    enable_piecewise_cuda_graph: bool = False
    capture_num_tokens: list[int] | None = None
    enable_userbuffers: bool = True
    max_num_streams: int = Field(default=1, ge=1)


class MoeConfig(StrictModel):
    """``moe_config``; accepted, not simulated."""

    backend: Literal[
        "AUTO",
        "CUTLASS",
        "CUTEDSL",
        "TRTLLM",
        "DEEPGEMM",
        "VANILLA",
        "TRITON",
        "WIDEEP",
        "DENSEGEMM",
        "MARLIN",
        "MEGAMOE_DEEPGEMM",
        "MEGAMOE_CUTEDSL",
        "CUTEDSL_FC12",
    ] = "AUTO"
    max_num_tokens: int | None = None
    load_balancer: str | dict[str, Any] | None = None
    disable_finalize_fusion: bool = False
    use_low_precision_moe_combine: bool = False


class AttentionDpConfig(StrictModel):
    """``attention_dp_config``; accepted, not simulated."""

    enable_balance: bool = False
    timeout_iters: int = 50
    batching_wait_iters: int = 10
    enable_kv_cache_aware_routing: bool = False


class TelemetryConfig(StrictModel):
    """``telemetry_config``; nothing is ever sent anywhere."""

    disabled: bool = False


class TorchLlmArgs(StrictModel):
    """The flat top level of the YAML."""

    model: str | None = None
    tokenizer: str | None = None
    trust_remote_code: bool = False
    revision: str | None = None
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    load_format: Literal["auto", "dummy", "vision_only", "gms"] = "auto"
    backend: str = "pytorch"
    max_batch_size: int = Field(default=2048, ge=1)
    max_num_tokens: int = Field(default=8192, ge=1)
    max_seq_len: int | None = Field(default=None, ge=1)
    max_input_len: int = 1024
    max_beam_width: int = Field(default=1, ge=1)
    tensor_parallel_size: int = Field(default=1, ge=1)
    pipeline_parallel_size: int = Field(default=1, ge=1)
    context_parallel_size: int = Field(default=1, ge=1)
    moe_expert_parallel_size: int | None = None
    moe_tensor_parallel_size: int | None = None
    moe_cluster_parallel_size: int | None = None
    gpus_per_node: int | None = None
    pp_partition: list[int] | None = None
    enable_attention_dp: bool = False
    attention_dp_config: AttentionDpConfig | None = None
    enable_lm_head_tp_in_adp: bool = False
    allreduce_strategy: Literal[
        "AUTO", "NCCL", "UB", "MINLATENCY", "ONESHOT", "TWOSHOT", "LOWPRECISION", "MNNVL", "NCCL_SYMMETRIC"
    ] = "AUTO"
    enable_chunked_prefill: bool = False
    scheduler_config: SchedulerConfig = Field(default_factory=SchedulerConfig)
    batch_wait_timeout_ms: float = Field(default=0, ge=0)
    batch_wait_timeout_iters: int = Field(default=0, ge=0)
    batch_wait_max_tokens_ratio: float = Field(default=0, ge=0, le=1)
    stream_interval: int = Field(default=1, ge=1)
    num_postprocess_workers: int = Field(default=0, ge=0)
    num_serve_frontends: int = Field(default=1, ge=1, le=64)
    disable_overlap_scheduler: bool = False
    enable_early_first_token_response: bool = False
    garbage_collection_gen0_threshold: int = 20000
    kv_cache_config: KvCacheConfig = Field(default_factory=KvCacheConfig)
    cuda_graph_config: CudaGraphConfig | None = Field(default_factory=CudaGraphConfig)
    torch_compile_config: TorchCompileConfig | None = None
    prefill_cuda_graph_backend: Literal["disabled", "piecewise", "breakable"] = "disabled"
    prefill_capture_num_tokens: list[int] | None = None
    attn_backend: Literal["TRTLLM", "FLASHINFER", "VANILLA", "FLASHINFER_STAR_ATTENTION"] = "TRTLLM"
    moe_config: MoeConfig = Field(default_factory=MoeConfig)
    enable_autotuner: bool = True
    enable_min_latency: bool = False
    use_cute_dsl_blockscaling_mm: bool = False
    use_cute_dsl_blockscaling_bmm: bool = False
    enable_layerwise_nvtx_marker: bool = False
    print_iter_log: bool = False
    env_overrides: dict[str, str] | None = None
    model_kwargs: dict[str, Any] | None = None
    force_dynamic_quantization: bool = False
    guided_decoding_backend: Literal["xgrammar", "llguidance"] | None = None
    enable_iter_perf_stats: bool = False
    enable_iter_req_stats: bool = False
    return_perf_metrics: bool = False
    perf_metrics_max_requests: int = Field(default=0, ge=0)
    enable_energy_metrics: bool = False
    max_stats_len: int = Field(default=1000, ge=-1)
    iter_stats_max_iterations: int | None = Field(default=None, ge=-1)
    request_stats_max_iterations: int | None = Field(default=None, ge=-1)
    telemetry_config: TelemetryConfig = Field(default_factory=TelemetryConfig)
    perf_metrics_output_dir: str | None = None
    per_request_spec_decode_stats: bool = False
    prometheus_metrics_config: dict[str, list[float]] | None = None
    otlp_traces_endpoint: str | None = None
    speculative_config: dict[str, Any] | None = None
    quant_config: dict[str, Any] | None = None
    lora_config: dict[str, Any] | None = None
    peft_cache_config: dict[str, Any] | None = None
    sparse_attention_config: dict[str, Any] | None = None
    cache_transceiver_config: dict[str, Any] | None = None
    cp_config: dict[str, Any] | None = None
    nvfp4_gemm_config: dict[str, Any] | None = None
    orchestrator_type: Literal["rpc", "ray"] | None = None
    sampler_type: Literal["auto", "TorchSampler", "TRTLLMSampler"] = "auto"
    fail_fast_on_attention_window_too_large: bool = False


_ADDED: Final = (
    (V1_1, (
        "batch_wait_max_tokens_ratio", "batch_wait_timeout_iters", "batch_wait_timeout_ms", "enable_lm_head_tp_in_adp",
        "kv_cache_config.attention_dp_events_gather_period_ms", "kv_cache_config.mamba_ssm_cache_dtype",
        "kv_cache_config.max_gpu_total_bytes", "kv_cache_config.tokens_per_block", "moe_config.disable_finalize_fusion",
        "perf_metrics_max_requests", "return_perf_metrics", "sampler_type", "speculative_config.max_concurrency",
        "torch_compile_config.capture_num_tokens",
    )),
    (V1_2, (
        "env_overrides", "max_stats_len", "moe_config.use_low_precision_moe_combine", "nvfp4_gemm_config",
        "orchestrator_type", "otlp_traces_endpoint", "pp_partition", "sparse_attention_config",
        "speculative_config.acceptance_length_threshold", "speculative_config.acceptance_window",
    )),
    (V1_3, (
        "attention_dp_config.enable_kv_cache_aware_routing", "enable_early_first_token_response", "enable_energy_metrics",
        "kv_cache_config.disk_cache_path", "kv_cache_config.disk_cache_size", "kv_cache_config.iteration_stats_interval",
        "kv_cache_config.max_util_for_resume", "kv_cache_config.use_kv_cache_manager_v2", "model_kwargs",
        "prometheus_metrics_config", "scheduler_config.use_python_scheduler", "scheduler_config.waiting_queue_policy",
        "telemetry_config", "use_cute_dsl_blockscaling_bmm", "use_cute_dsl_blockscaling_mm",
    )),
    (V1_3_LATE, (
        "kv_cache_config.avg_seq_len", "kv_cache_config.enable_kv_pool_rebalance",
        "kv_cache_config.fp8_context_mla_kv_len_cap", "num_serve_frontends", "per_request_spec_decode_stats",
        "perf_metrics_output_dir", "prefill_capture_num_tokens", "prefill_cuda_graph_backend",
        "scheduler_config.enable_prefix_aware_scheduling",
    )),
)  # fmt: skip

ADDED_IN: Final = {key: version for version, keys in _ADDED for key in keys}
"""First version that knows a key; older ones refuse it: the fields of the models in the API references of 1.0.0, 1.1.0, 1.2.1
and 1.3.0rc20, and the contract for what came later. Keys not listed exist since 1.0."""

_SIMULATED: Final = frozenset(
    {
        "model", "backend", "load_format", "max_batch_size", "max_num_tokens", "max_seq_len",
        "tensor_parallel_size", "pipeline_parallel_size", "enable_chunked_prefill", "scheduler_config",
        "stream_interval", "disable_overlap_scheduler", "kv_cache_config", "cuda_graph_config",
        "enable_iter_perf_stats", "return_perf_metrics", "perf_metrics_max_requests", "enable_energy_metrics",
        "print_iter_log", "max_stats_len", "iter_stats_max_iterations", "telemetry_config", "tokenizer", "trust_remote_code",
        "revision", "fail_fast_on_attention_window_too_large", "enable_autotuner", "max_input_len",
    }
)  # fmt: skip
"""Keys that do here what they do there, or that have nothing to do here."""

_NULL_MEANS_DEFAULT: Final = ("max_batch_size", "max_input_len", "max_beam_width", "max_num_tokens")


def _too_new(values: dict[str, Any], version: ServerVersion, path: tuple[str, ...] = ()) -> list[InitErrorDetails]:
    """Return one error for each key that this version does not know yet."""
    errors: list[InitErrorDetails] = []
    for key, value in values.items():
        here = (*path, str(key))
        added = ADDED_IN.get(".".join(here))
        if added is not None and version < added:
            errors.append(InitErrorDetails(type="extra_forbidden", loc=here, input=value))
        elif isinstance(value, dict):
            errors += _too_new(value, version, here)
    return errors


def validate_arguments(values: dict[str, Any], version: ServerVersion) -> TorchLlmArgs:
    """Validate merged settings as the given version does.

    Raises:
        pydantic.ValidationError: a key is unknown to this version or a value is not allowed.
    """
    errors = _too_new(values, version)
    if errors:
        raise ValidationError.from_exception_data("TorchLlmArgs", errors)
    kept = {key: value for key, value in values.items() if value is not None or key not in _NULL_MEANS_DEFAULT}
    return TorchLlmArgs.model_validate(kept)


def ignored_keys(arguments: TorchLlmArgs) -> tuple[str, ...]:
    """Return the keys that were set to something else than their default and change nothing here."""
    return tuple(
        sorted(
            name
            for name in arguments.model_fields_set - _SIMULATED
            if getattr(arguments, name) != TorchLlmArgs.model_fields[name].get_default(call_default_factory=True)
        )
    )
