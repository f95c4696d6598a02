"""Knobs of TensorRT-LLM's kernels, CUDA graphs, compilation and data types (contract trtllm 5.4, 5.6, 5.7)."""

from __future__ import annotations

from engines._trtllm_versioned import (
    BATCH_SIZES,
    COMPILE_ON,
    DEFAULT_GRAPH_BATCH_SIZE,
    GRAPHS_ON,
    VersionedKnob,
)
from engines._trtllm_versions import LATE, V1_1, V1_2, V1_3
from engines.knob import Knob

_GRAPHS = {GRAPHS_ON: (True,)}
_COMPILED = {COMPILE_ON: (True,)}

_GRAPH_KNOBS = (
    VersionedKnob(Knob(
        GRAPHS_ON, "bool", True, help="Decode CUDA graphs; False writes `cuda_graph_config: null`.",
    )),
    VersionedKnob(Knob(
        "cuda_graph_config.max_batch_size", "int", DEFAULT_GRAPH_BATCH_SIZE, 1, 8192, log=True,
        choices=BATCH_SIZES, searched=True, requires=_GRAPHS,
        help="Largest batch with a CUDA graph; larger ones run eagerly and much slower.",
    )),
    VersionedKnob(Knob(
        "cuda_graph_config.batch_sizes", "list", None, requires=_GRAPHS,
        help="The batches with a CUDA graph, such as 1,2,4,8; left out: chosen from the largest.",
    )),
    VersionedKnob(Knob(
        "cuda_graph_config.enable_padding", "bool", False, searched=True, requires=_GRAPHS,
        help="Pad a batch to the next size that has a graph.",
    )),
    VersionedKnob(Knob(
        COMPILE_ON, "bool", False, help="torch.compile the model: one to five minutes more at start.",
    )),
    VersionedKnob(Knob(
        "torch_compile_config.enable_fullgraph", "bool", True, requires=_COMPILED, help="One graph without breaks.",
    )),
    VersionedKnob(Knob(
        "torch_compile_config.enable_inductor", "bool", False, requires=_COMPILED, help="Compile through Inductor.",
    )),
    VersionedKnob(Knob(
        "torch_compile_config.enable_piecewise_cuda_graph", "bool", False, requires=_COMPILED,
        help="CUDA graphs for prefill, in pieces; late 1.3 has prefill_cuda_graph_backend instead.",
    )),
    VersionedKnob(Knob(
        "torch_compile_config.capture_num_tokens", "list", None,
        requires={**_COMPILED, "torch_compile_config.enable_piecewise_cuda_graph": (True,)},
        help="Token counts to capture piecewise graphs for, such as 128,256,512.",
    ), since=V1_1),
    VersionedKnob(Knob(
        "torch_compile_config.enable_userbuffers", "bool", True, requires=_COMPILED,
        help="Communicate through registered buffers.",
    )),
    VersionedKnob(Knob(
        "torch_compile_config.max_num_streams", "int", 1, 1, 16, requires=_COMPILED,
        help="CUDA streams the compiled graph may use.",
    )),
    VersionedKnob(Knob(
        "prefill_cuda_graph_backend", "choice", "disabled", choices=("disabled", "piecewise", "breakable"),
        help="CUDA graphs for prefill; breakable excludes torch.compile and LoRA.",
    ), since=LATE),
    VersionedKnob(Knob(
        "prefill_capture_num_tokens", "list", None,
        requires={"prefill_cuda_graph_backend": ("piecewise", "breakable")},
        help="Token counts to capture prefill graphs for, such as 128,256,512.",
    ), since=LATE),
)  # fmt: skip

_FIRST_MOE = ("CUTLASS", "CUTEDSL", "WIDEEP", "TRTLLM", "DEEPGEMM", "VANILLA")
_OLD_MOE = (*_FIRST_MOE, "TRITON")
_V1_3_MOE = ("AUTO", *_OLD_MOE, "DENSEGEMM", "MARLIN", "MEGAMOE_DEEPGEMM")
_NEW_MOE = (
    *("AUTO", "CUTLASS", "CUTEDSL", "TRTLLM", "DEEPGEMM", "VANILLA", "TRITON", "DENSEGEMM", "MARLIN"),
    *("MEGAMOE_DEEPGEMM", "MEGAMOE_CUTEDSL", "CUTEDSL_FC12"),
)
_MOE_HELP = "Expert kernels; TRTLLM and CUTEDSL need Blackwell, TRITON is for MXFP4 on Hopper."

_MOE_KNOBS = (
    VersionedKnob(Knob("moe_config.backend", "choice", "CUTLASS", choices=_FIRST_MOE, help=_MOE_HELP), until=V1_1),
    VersionedKnob(Knob(
        "moe_config.backend", "choice", "CUTLASS", choices=_OLD_MOE, help=_MOE_HELP,
    ), since=V1_1, until=V1_2),
    VersionedKnob(Knob(
        "moe_config.backend", "choice", "AUTO", choices=("AUTO", *_OLD_MOE), help=_MOE_HELP,
    ), since=V1_2, until=V1_3),
    VersionedKnob(Knob(
        "moe_config.backend", "choice", "AUTO", choices=_V1_3_MOE, help=_MOE_HELP,
    ), since=V1_3, until=LATE),
    VersionedKnob(Knob("moe_config.backend", "choice", "AUTO", choices=_NEW_MOE, help=_MOE_HELP), since=LATE),
    VersionedKnob(Knob(
        "moe_config.max_num_tokens", "int", None, 64, 1_000_000, log=True,
        help="Tokens that go through the experts at once; saves memory with attention DP.",
    )),
    VersionedKnob(Knob(
        "moe_config.load_balancer", "text", None, help="File that places the experts (EPLB).",
    )),
    VersionedKnob(Knob(
        "moe_config.disable_finalize_fusion", "bool", False, help="Do not fuse the sum over experts.",
    ), since=V1_1),
    VersionedKnob(Knob(
        "moe_config.use_low_precision_moe_combine", "bool", False,
        help="Exchange expert results in lower precision; changes the answers a little.",
    ), since=V1_2),
)  # fmt: skip

_KERNEL_KNOBS = (
    VersionedKnob(Knob(
        "attn_backend", "choice", "TRTLLM", choices=("TRTLLM", "FLASHINFER", "VANILLA", "FLASHINFER_STAR_ATTENTION"),
        help="Attention kernels; VANILLA is for debugging.",
    ), until=V1_3),
    VersionedKnob(Knob(
        "attn_backend", "choice", "TRTLLM", choices=("TRTLLM", "FLASHINFER", "VANILLA"),
        help="Attention kernels; VANILLA is for debugging.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "nvfp4_gemm_config.allowed_backends", "list", None,
        help="Kernels tried for NVFP4 matrices: cutlass, cublaslt, cuda_core, cutedsl, late 1.3 marlin; joined with commas.",
    ), since=V1_2),
    VersionedKnob(Knob(
        "enable_autotuner", "bool", True, help="Try kernels at start; results can differ from start to start.",
    )),
    VersionedKnob(Knob(
        "use_cute_dsl_blockscaling_mm", "bool", False, help="CuTe DSL kernels for block-scaled matrices; Blackwell.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "use_cute_dsl_blockscaling_bmm", "bool", False, help="The same for batched ones; Blackwell.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "enable_min_latency", "bool", False, help="Kernels for the lowest latency; Llama 4 only.",
    )),
    VersionedKnob(Knob(
        "sampler_type", "choice", "auto", choices=("auto", "TorchSampler", "TRTLLMSampler"), help="The sampler.",
    ), since=V1_1, until=LATE),
    VersionedKnob(Knob(
        "dtype", "choice", "auto", choices=("auto", "float16", "bfloat16", "float32"), coarse=True,
        help="Data type of the weights.",
    )),
    VersionedKnob(Knob(
        "force_dynamic_quantization", "bool", False, coarse=True,
        help="Compute activation scales anew instead of the checkpoint's.",
    )),
    VersionedKnob(Knob(
        "load_format", "choice", "auto", choices=("auto", "dummy", "vision_only"),
        help="dummy: random weights, for speed tests of dense models without a checkpoint.",
    ), until=V1_3),
    VersionedKnob(Knob(
        "load_format", "choice", "auto", choices=("auto", "dummy", "vision_only", "gms"),
        help="dummy: random weights, for speed tests of dense models without a checkpoint.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "sparse_attention_config.algorithm", "choice", None, choices=(None, "rocket", "dsa", "skip_softmax"),
        help="Sparse attention; rocket and skip_softmax change the answers.",
    ), since=V1_2, until=LATE),
    VersionedKnob(Knob(
        "sparse_attention_config.algorithm", "choice", None,
        choices=(None, "rocket", "dsa", "skip_softmax", "deepseek_v4", "minimax_m3", "qsa"),
        help="Sparse attention; rocket and skip_softmax change the answers.",
    ), since=LATE),
    VersionedKnob(Knob(
        "guided_decoding_backend", "choice", None, choices=(None, "xgrammar", "llguidance"),
        help="Grammar engine for structured answers.",
    )),
    VersionedKnob(Knob("trust_remote_code", "bool", False, help="Run code that comes with the model.")),
)  # fmt: skip

_REPORT_KNOBS = (
    VersionedKnob(Knob(
        "enable_layerwise_nvtx_marker", "bool", False, help="NVTX ranges for each layer, for nsys; costs host time.",
    )),
    VersionedKnob(Knob(
        "print_iter_log", "bool", False,
        help="A log line for each iteration; read where the server's metrics cannot be.",
    )),
    VersionedKnob(Knob(
        "enable_iter_req_stats", "bool", False, help="State of every request in each record; costly at high load.",
    )),
    VersionedKnob(Knob(
        "perf_metrics_max_requests", "int", 0, 0, 1_000_000,
        help="Finished requests kept for /perf_metrics: their queue, prefill and decode times.",
    ), since=V1_1, until=LATE),
    VersionedKnob(Knob(
        "max_stats_len", "int", 1000, -1, 10_000_000, help="Iteration records kept until they are read; -1: all.",
    ), since=V1_2),
    VersionedKnob(Knob(
        "iter_stats_max_iterations", "int", None, -1, 10_000_000, help="The same for the HTTP side's copy.",
    )),
    VersionedKnob(Knob(
        "request_stats_max_iterations", "int", None, -1, 10_000_000, help="The same for the requests' records.",
    )),
    VersionedKnob(Knob(
        "enable_energy_metrics", "bool", False, help="Joules of all GPUs at /energy_metrics.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "per_request_spec_decode_stats", "bool", False, help="Acceptance of guessed tokens in each answer.",
    ), since=LATE),
    VersionedKnob(Knob(
        "telemetry_config.disabled", "bool", False, help="Send no usage telemetry to NVIDIA.",
    ), since=V1_3),
)  # fmt: skip

KERNEL_KNOBS: tuple[VersionedKnob, ...] = (*_GRAPH_KNOBS, *_MOE_KNOBS, *_KERNEL_KNOBS, *_REPORT_KNOBS)
