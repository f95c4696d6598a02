"""Log lines by engine with the failure they mean.

Those of llama.cpp were provoked on the server of the wheel xllamacpp 2026.10.11549; those of TensorRT-LLM follow the
texts in its sources (py_executor_creator.py, serve.py, proxy.py) and pydantic's and click's own. Those of vLLM are
captured from 0.24.0 (KV memory, context length, world size, flag, core) or texts of its sources; those of SGLang, LMDeploy
and TGI are from their issue trackers and sources; NIM's own are guesses at
its wording (no container of it was run).
"""

from __future__ import annotations

_COMPONENT = "The following component could not be created: "
_VALIDATION = "pydantic_core._pydantic_core.ValidationError: 1 validation error for TorchLlmArgs"

TRTLLM_LINES = (
    (f"{_COMPONENT}Initial KV cache (temporary for KV cache size estimation)", "out_of_memory"),
    (f"{_COMPONENT}Additional executor resources (temporary for KV cache size estimation)", "out_of_memory"),
    (f"{_COMPONENT}KV cache", "out_of_memory"),
    (f"{_COMPONENT}Sampler", "out_of_memory"),
    (f"{_COMPONENT}Drafter", "out_of_memory"),
    (f"{_COMPONENT}Guided decoder", "out_of_memory"),
    (f"{_COMPONENT}Model", "out_of_memory"),
    (f"{_COMPONENT}Model resources created during usage", "out_of_memory"),
    (f"{_COMPONENT}Draft model for speculative decoding", "out_of_memory"),
    ("RuntimeError: Executor creation failed due to insufficient GPU memory.", "out_of_memory"),
    ("  Extra inputs are not permitted [type=extra_forbidden, input_value=64, input_type=int]", "bad_config"),
    (_VALIDATION, "bad_config"),
    ("ValueError: Configuration file root must be a mapping.", "bad_config"),
    ("Error: No such option: --max_batch", "bad_config"),
    ("Error: Invalid value for '--backend': 'tensorrt' is not one of 'pytorch', '_autodeploy'.", "bad_config"),
    ("Error: Invalid value for '--log_level': 'loud' is not one of 'info'.", "bad_config"),
    ("ValueError: world_size (8) is larger than the number of GPUs (4) of this node", "too_few_gpus"),
    ("torch._dynamo.exc.BackendCompilerFailed: backend='inductor' raised:", "compile_failed"),
    ("RuntimeError: CUDA error: operation not permitted when stream is capturing", "graph_capture"),
    (
        "The sum of prompt length (9000.0), query length (0) should not exceed max_num_tokens (8192)",
        "prompt_too_long",
    ),
    ("[TRT-LLM] [E] Hang detected: no progress for 300 s", "hung"),
    ("AssertionError: No GPU devices found on the node", "no_gpu"),
    ("RuntimeError: Failed to bind socket to 0.0.0.0:8000: [Errno 98] Address already in use", "port_in_use"),
    ("OSError: [Errno 98] Address already in use", "port_in_use"),
    ("max_seq_len 131072 is larger than what fits the KV cache", "kv_too_small"),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "out_of_memory"),
    ("[TensorRT-LLM][ERROR] CUDA runtime error in cudaMalloc(ptr, n): out of memory", "out_of_memory"),
    ("RuntimeError: Failed, NCCL error /src/nccl.cpp:42 'unhandled cuda error'", "nccl"),
    ("RuntimeError: CUDA error: no kernel image is available for execution on the device", "unsupported"),
    ("ValueError: FP8 block scales are not supported on SM 80", "unsupported"),
    ("ValueError: Unknown architecture for AutoModelForCausalLM: NewForCausalLM", "unsupported"),
    ("huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error", "bad_model"),
    ("Bus error (core dumped)", "shared_memory"),
    ("Executor loop crashed on this rank; hard-killing all 2 ranks", "rank_died"),
    ("RuntimeError: Executor worker died during initialization", "worker_died"),
    ("RuntimeError: Executor worker returned error", "worker_error"),
)

LLAMACPP_LINES = (
    ("E ggml_aligned_malloc: insufficient memory (attempted to allocate 195312.50 MB)", "out_of_memory"),
    (
        "E llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache",
        "out_of_memory",
    ),
    ("E llama_init_from_model: failed to initialize the context: n_seq_max must be <= 256", "bad_config"),
    ("llama-context.cpp:2289: GGML_ASSERT(n_outputs_max <= cparams.n_outputs_max) failed", "bad_config"),
    ("E llama_init_from_model: quantized V cache requires flash_attn to be enabled", "bad_config"),
    ("  what():  Resource temporarily unavailable", "out_of_memory"),
    ("libgomp: Thread creation failed: Resource temporarily unavailable", "out_of_memory"),
    ("E srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 18912", "port_in_use"),
    ("E gguf_init_from_file: failed to open GGUF file 'none.gguf' (No such file or directory)", "bad_model"),
    ("E gguf_init_from_reader: invalid magic characters: 'hell', expected 'GGUF'", "bad_model"),
    ("E gguf_init_from_reader: failed to read key-value pairs", "bad_model"),
    ("E srv    load_model: failed to load model, 'cut.gguf'", "bad_model"),
    ("llamacpp_server: error: unrecognized arguments: --parallelx 4", "bad_config"),
    ("error: invalid argument: --parallelx", "bad_config"),
    ("llamacpp_server: error: argument -np/--parallel: invalid int value: 'foo'", "bad_config"),
    ("error: llama.cpp's server is not installed; run: pip install 'trtune[llamacpp]'", "missing_program"),
    ("E srv    load_model: failed to create_context with model 'tiny.gguf'", "bad_config"),
    ("ggml.c:99: GGML_ASSERT(a->ne[0] == b->ne[0]) failed", "crashed"),
)

PYTHON_SERVER_LINES = (
    ("api_server.py: error: unrecognized arguments: --no-such-flag", "bad_config"),
    ("api_server.py: error: argument --max-batch: invalid int value: 'many'", "bad_config"),
    ("RuntimeError: No CUDA GPUs are available", "no_gpu"),
    ("ERROR: [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000)", "port_in_use"),
    ("huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error", "bad_model"),
    ("RuntimeError: CUDA error: no kernel image is available for execution on the device", "unsupported"),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "out_of_memory"),
    ("RuntimeError: NCCL error: unhandled system error", "nccl"),
    ("Bus error (core dumped)", "shared_memory"),
)
PYTHON_SERVERS = ("vllm", "sglang", "lmdeploy", "tgi", "nim")

VLLM_LINES = (
    (
        "(EngineCore pid=1115) ValueError: No available memory for the cache blocks. Try increasing"
        " `gpu_memory_utilization` when initializing the engine",
        "out_of_memory",
    ),
    (
        "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is needed,"
        " which is larger than the available KV cache memory (3.94 GiB).",
        "kv_too_small",
    ),
    (
        "ValueError: Free memory on device cuda:0 (3.1/139.7 GiB) on startup is less than desired GPU memory utilization"
        " (0.92, 128.5 GiB).",
        "gpu_busy",
    ),
    (
        "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests.",
        "out_of_memory",
    ),
    (
        "  Value error, User-specified max_model_len (10000000) is greater than the derived max_model_len"
        " (max_position_embeddings=32768.0 or model_max_length=None in model's config.json).",
        "bad_config",
    ),
    (
        "  Value error, World size (4) is larger than the number of available GPUs (1) in this node.",
        "bad_config",
    ),
    (
        "  Value error, Total number of attention heads (32) must be divisible by tensor parallel size (3).",
        "bad_config",
    ),
    ("  Value error, max_num_batched_tokens (2048) is smaller than max_model_len (8192).", "bad_config"),
    (
        "  Value error, max_num_batched_tokens (64) must be greater than or equal to max_num_seqs (256).",
        "bad_config",
    ),
    (
        "  Value error, The quantization method fp8 is not supported for the current GPU. Minimum capability: 89.",
        "unsupported",
    ),
    ("importlib.metadata.PackageNotFoundError: No package metadata was found for vllm", "missing_program"),
    ("pydantic_core._pydantic_core.ValidationError: 1 validation error for ParallelConfig", "bad_config"),
    ("RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}", "worker_died"),
    ("ERROR 11-21 00:16:29 [core.py:1231] EngineCore encountered a fatal error.", "died"),
)

SGLANG_LINES = (
    (
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static. Current value: 0.2",
        "out_of_memory",
    ),
    ("Exception: Capture cuda graph failed: CUDA out of memory.", "out_of_memory"),
    (
        "ValueError: The memory capacity is unbalanced. Some GPUs may be occupied by other processes.",
        "gpu_busy",
    ),
    ("[2025-12-11 10:34:03] Scheduler hit an exception: Traceback (most recent call last):", "worker_died"),
)

LMDEPLOY_LINES = (
    (
        "RuntimeError: [TM][ERROR] CUDA runtime error: out of memory lmdeploy/src/turbomind/utils/memory_utils.cu:32",
        "out_of_memory",
    ),
    ("RuntimeError: No enough gpu memory for runtime.", "kv_too_small"),
)

NIM_LINES = (
    (
        "Could not find a profile that is currently runnable with the detected hardware. Please check the system",
        "no_profile",
    ),
    (
        "Model download failed: Environment variable NIM_MODEL_PROFILE is set to abc, but no matching profile_id or "
        "profile description is found in manifest.",
        "no_profile",
    ),
    ("ERROR: No compatible profiles found for the detected GPUs", "no_profile"),
    ("PermissionError: [Errno 13] Permission denied: '/opt/nim/.cache/huggingface'", "cache_not_writable"),
    ("Authentication error: check your NGC credentials", "unauthorised"),
    ("OSError: [Errno 28] No space left on device: '/opt/nim/.cache/model.safetensors'", "disk_full"),
)

TGI_LINES = (
    (
        'Error: Warmup(Generation("Not enough memory to handle 4096 prefill tokens. You need to decrease'
        ' `--max-batch-prefill-tokens`"))',
        "out_of_memory",
    ),
    ('Error: ArgumentValidation("`max_input_tokens` must be < `max_total_tokens`")', "bad_config"),
    ("error: unexpected argument '--max-batch-tokens' found", "bad_config"),
    ('Error: NotEnoughCUDADevices("`sharded` is true but only found 1 CUDA devices")', "bad_config"),
    ("ERROR text_generation_launcher: Shard 0 failed to start", "worker_died"),
)

TRITON_LINES = (
    ("failed to start HTTP service: Unavailable - Socket '127.0.0.1:8000' already in use ", "port_in_use"),
    ("/opt/tritonserver/bin/tritonserver: unrecognized option '--no-such-flag'", "bad_config"),
    ("failed to load 'nope', failed to poll from model repository", "bad_model"),
    (
        "load failed for model 'tensorrt_llm': version 1 is at UNAVAILABLE state: Internal: KeyError: 'model'",
        "bad_config",
    ),
)

TRITON_ENGINE_LINES = (
    ("RuntimeError: Executor creation failed due to insufficient GPU memory.", "out_of_memory"),
    ("[TensorRT-LLM][ERROR] Could not find engine: /engines/llama", "bad_config"),
)

FAILURE_LINES = (
    *(("triton", line, kind) for line, kind in (*TRTLLM_LINES, *TRITON_LINES)),
    *(("triton_engines", line, kind) for line, kind in (*TRITON_ENGINE_LINES, *TRITON_LINES)),
    *(("triton_vllm", line, kind) for line, kind in (*PYTHON_SERVER_LINES, *VLLM_LINES, *TRITON_LINES)),
    *((name, line, kind) for name in PYTHON_SERVERS for line, kind in PYTHON_SERVER_LINES),
    *(("vllm", line, kind) for line, kind in VLLM_LINES),
    *(("sglang", line, kind) for line, kind in SGLANG_LINES),
    *(("lmdeploy", line, kind) for line, kind in LMDEPLOY_LINES),
    *(("tgi", line, kind) for line, kind in TGI_LINES),
    *(("nim", line, kind) for line, kind in (*NIM_LINES, *VLLM_LINES)),
    *((name, line, kind) for name in ("trtllm", "trtllm_engines") for line, kind in TRTLLM_LINES),
    *(("llamacpp", line, kind) for line, kind in LLAMACPP_LINES),
)
