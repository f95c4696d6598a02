"""Log lines by engine with the failure they mean.

Those of llama.cpp were provoked on the server of the wheel xllamacpp 2026.10.11549; those of TensorRT-LLM follow the
texts in its sources (py_executor_creator.py, serve.py, proxy.py) and pydantic's and click's own.
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
    (f"{_COMPONENT}Draft Model", "out_of_memory"),
    ("RuntimeError: Executor creation failed due to insufficient GPU memory.", "out_of_memory"),
    ("  Extra inputs are not permitted [type=extra_forbidden, input_value=64, input_type=int]", "bad_config"),
    (_VALIDATION, "bad_config"),
    ("ValueError: Configuration file root must be a mapping.", "bad_config"),
    ("Error: No such option: --max_batch", "bad_config"),
    ("Error: Invalid value for '--backend': 'tensorrt' is not one of 'pytorch', '_autodeploy'.", "bad_config"),
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

FAILURE_LINES = (
    *(("trtllm", line, kind) for line, kind in TRTLLM_LINES),
    *(("llamacpp", line, kind) for line, kind in LLAMACPP_LINES),
)
