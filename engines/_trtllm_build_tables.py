"""Settings of TensorRT-LLM's engine backend, which 1.0 to 1.3.0rc20 have (contract trtllm 6).

Some are frozen when the checkpoint is converted, some when the engine is built, and some are read at the start.
"""

from __future__ import annotations

from dataclasses import replace

from engines._trtllm_versioned import BATCH_SIZES, PARALLEL_SIZES, TOKEN_BUDGETS
from engines.knob import Knob

QFORMAT = "quantize.qformat"
KV_QFORMAT = "quantize.kv_cache_dtype"
TP, PP = "tensor_parallel_size", "pipeline_parallel_size"
BATCH_TUNING = "scheduler_config.dynamic_batch_config.enable_batch_size_tuning"
BUDGET_TUNING = "scheduler_config.dynamic_batch_config.enable_max_num_tokens_tuning"
BUILD = "build."
"""Knobs of trtllm-build: the flag after the dot."""

_PAGED = {f"{BUILD}use_paged_context_fmha": (True,)}
_SPECULATIVE = {f"{BUILD}speculative_decoding_mode": ("draft_tokens_external", "lookahead_decoding", "medusa", "eagle")}

CHECKPOINT_KNOBS = (
    Knob(QFORMAT, "choice", "full_prec",
         choices=("full_prec", "fp8", "nvfp4", "int8_sq", "int4_awq", "w4a8_awq", "int8_wo", "int4_wo"), coarse=True,
         help="Quantisation of the weights; needs a gate for the answers' quality."),
    Knob(KV_QFORMAT, "choice", None, choices=(None, "fp8", "int8"), coarse=True,
         help="Quantisation of the KV cache; left out: that of the weights' data type."),
    Knob("quantize.dtype", "choice", "auto", choices=("auto", "float16", "bfloat16"), coarse=True,
         help="Data type of what is not quantised."),
    Knob("quantize.calib_size", "int", 512, 1, 100_000, help="Samples that the scales are found with."),
    Knob("quantize.awq_block_size", "int", 128, 16, 1024, requires={QFORMAT: ("int4_awq", "w4a8_awq")},
         help="Weights that share a scale with AWQ."),
    Knob(TP, "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True, searched=True,
         help="GPUs that share each layer; frozen in the checkpoint."),
    Knob(PP, "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True,
         help="Stages the layers are dealt out to; frozen in the checkpoint."),
)  # fmt: skip
"""Frozen in the converted checkpoint: a change costs a conversion and a build."""

BUILD_KNOBS = (
    Knob(f"{BUILD}max_batch_size", "int", 2048, 1, 8192, log=True, choices=BATCH_SIZES, searched=True,
         help="Most requests in one iteration of this engine."),
    Knob(f"{BUILD}max_num_tokens", "int", 8192, 64, 131072, log=True, choices=TOKEN_BUDGETS, searched=True,
         help="Token budget of one iteration of this engine."),
    Knob(f"{BUILD}max_input_len", "int", 1024, 1, 10_000_000, help="Longest prompt of this engine."),
    Knob(f"{BUILD}max_seq_len", "int", None, 16, 10_000_000, help="Longest request; left out: the model's."),
    Knob(f"{BUILD}opt_num_tokens", "int", None, 1, 131072, help="Tokens that kernels are chosen for."),
    Knob(f"{BUILD}max_beam_width", "int", 1, 1, 64, help="Beams of a request."),
    Knob(f"{BUILD}multiple_profiles", "bool", False, searched=True, help="Kernels for several batch sizes; longer builds."),
    Knob(f"{BUILD}gemm_plugin", "choice", None, choices=(None, "auto", "fp8"),
         help="Matrix kernels of the plugin; upstream: auto for bfloat16, none for FP8."),
    Knob(f"{BUILD}context_fmha", "bool", True, help="Fused attention in prefill."),
    Knob(f"{BUILD}use_paged_context_fmha", "bool", True, help="Paged attention in prefill; chunked prefill needs it."),
    Knob(f"{BUILD}use_fp8_context_fmha", "bool", False, requires={QFORMAT: ("fp8",), **_PAGED},
         help="Attention in prefill in FP8."),
    Knob(f"{BUILD}reduce_fusion", "bool", False, requires={TP: (2, 4, 8, 16)}, help="Fuse all-reduce with what follows."),
    Knob(f"{BUILD}user_buffer", "bool", False, requires={f"{BUILD}reduce_fusion": (True,)},
         help="Registered buffers for all-reduce; FP8 over NVLink."),
    Knob(f"{BUILD}norm_quant_fusion", "bool", False, help="Fuse normalisation with quantisation."),
    Knob(f"{BUILD}use_fused_mlp", "bool", True, help="Fuse the MLP's first two matrices."),
    Knob(f"{BUILD}gemm_swiglu_plugin", "choice", None, choices=(None, "fp8"), help="Fused SwiGLU kernel; FP8 only."),
    Knob(f"{BUILD}low_latency_gemm_plugin", "choice", None, choices=(None, "fp8"), help="Matrix kernels for small batches."),
    Knob(f"{BUILD}pp_reduce_scatter", "bool", False, requires={PP: (2, 4, 8, 16)}, help="Reduce-scatter between stages."),
    Knob(f"{BUILD}tokens_per_block", "choice", 32, choices=(16, 32, 64, 128), help="Tokens of one KV block."),
    Knob(f"{BUILD}weight_streaming", "bool", False, help="Keep weights in host memory; much slower."),
    Knob(f"{BUILD}speculative_decoding_mode", "choice", None,
         choices=(None, "draft_tokens_external", "lookahead_decoding", "medusa", "eagle"), help="Speculative decoding."),
    Knob(f"{BUILD}max_draft_len", "int", 0, 0, 64, requires=_SPECULATIVE, help="Tokens guessed at once."),
)  # fmt: skip
"""Frozen in the engine: a change costs a build."""

RUN_KNOBS = (
    Knob("kv_cache_config.free_gpu_memory_fraction", "float", 0.9, 0.05, 0.99,
         choices=(0.6, 0.7, 0.8, 0.85, 0.9, 0.95), searched=True,
         help="Share of the memory that is free after the engine is loaded, for the KV cache."),
    Knob("kv_cache_config.max_tokens", "int", None, 64, 1_000_000_000, help="Most tokens in the KV cache."),
    Knob("kv_cache_config.enable_block_reuse", "bool", True, help="Prefix caching."),
    Knob("kv_cache_config.host_cache_size", "int", None, 0, 2**44, help="Host memory for KV blocks in bytes."),
    Knob("scheduler_config.capacity_scheduler_policy", "choice", "GUARANTEED_NO_EVICT",
         choices=("GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH"), searched=True,
         help="Reserve KV for a request's whole length, or pack more and pause requests when it runs out."),
    Knob("scheduler_config.context_chunking_policy", "choice", None,
         choices=(None, "FIRST_COME_FIRST_SERVED", "EQUAL_PROGRESS"), requires={"enable_chunked_prefill": (True,)},
         help="Whose prompt gets the rest of the token budget."),
    Knob(BATCH_TUNING, "bool", True, help="The server fits its batch size to the load."),
    Knob(BUDGET_TUNING, "bool", False, help="The server fits its token budget to the load."),
    Knob("enable_chunked_prefill", "bool", False, searched=True, help="Split long prompts over iterations."),
    Knob("batching_type", "choice", "INFLIGHT", choices=("INFLIGHT", "STATIC"), help="Whether requests join a running batch."),
    Knob("extended_runtime_perf_knob_config.multi_block_mode", "bool", True, help="Split long attention over the GPU."),
    Knob("extended_runtime_perf_knob_config.enable_context_fmha_fp32_acc", "bool", False,
         help="Accumulate attention over the prompt in 32 bits."),
    Knob("extended_runtime_perf_knob_config.cuda_graph_mode", "bool", False, searched=True,
         help="Capture decode steps as CUDA graphs."),
    Knob("extended_runtime_perf_knob_config.cuda_graph_cache_size", "int", 0, 0, 4096,
         requires={"extended_runtime_perf_knob_config.cuda_graph_mode": (True,)}, help="Captured graphs that are kept."),
    Knob("num_postprocess_workers", "int", 0, 0, 64, choices=(0, 1, 2, 4, 8), help="Processes for detokenising."),
)  # fmt: skip
"""Read at the start: a change costs a restart."""

KNOBS = (*(replace(knob, cost="build") for knob in (*CHECKPOINT_KNOBS, *BUILD_KNOBS)), *RUN_KNOBS)
