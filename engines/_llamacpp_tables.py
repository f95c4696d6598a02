"""Knobs and failure texts of llama.cpp's server.

Flags and defaults: tools/server/README.md of ggml-org/llama.cpp. Texts: provoked on the server of the wheel xllamacpp
2026.10.11549.
"""

from __future__ import annotations

import os
import re

from engines.failure import FailureRule
from engines.knob import Knob

CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "iq4_nl", "q4_1", "q4_0")
QUANTISED_CACHE_TYPES = CACHE_TYPES[3:]
MOST_SLOTS = 256
MOST_THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Cores this process may use; more threads than cores wait for each other."""

SLOTS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
BATCHES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
DEFAULT_SLOTS = 1
DEFAULT_BATCH_TOKENS = 2048

KNOBS = (
    Knob("parallel", "int", DEFAULT_SLOTS, 1, MOST_SLOTS, log=True, choices=SLOTS, searched=True,
         help="Slots: requests that generate at the same time."),
    Knob("threads", "int", None, 1, MOST_THREADS, log=True, searched=True,
         help="CPU threads for generation; left out: one per core."),
    Knob("threads-batch", "int", None, 1, MOST_THREADS, log=True,
         help="CPU threads for prompts; left out: as `threads`."),
    Knob("batch-size", "int", DEFAULT_BATCH_TOKENS, 32, 16384, log=True, choices=BATCHES, searched=True,
         help="Logical batch size in tokens: the most that is scheduled at once."),
    Knob("ubatch-size", "int", 512, 32, 8192, log=True, choices=BATCHES, searched=True,
         help="Physical batch size in tokens: the most that is computed at once."),
    Knob("ctx-size", "int", 0, 0, 16_777_216,
         help="Context in tokens, shared out over the slots; 0: the model's own for each slot."),
    Knob("kv-unified", "bool", False,
         help="One KV buffer for all slots, so that a slot may use what others leave."),
    Knob("cache-type-k", "choice", "f16", choices=CACHE_TYPES, coarse=True, help="Data type of cached keys."),
    Knob("cache-type-v", "choice", "f16", choices=CACHE_TYPES, coarse=True, help="Data type of cached values."),
    Knob("flash-attn", "choice", "auto", choices=("auto", "on", "off"), help="Flash attention."),
    Knob("cont-batching", "bool", True, help="Requests join and leave the batch while it runs."),
    Knob("cache-prompt", "bool", True, help="Reuse a slot's cache for a prompt that starts alike."),
    Knob("cache-reuse", "int", 0, 0, 8192, requires={"cache-prompt": (True,)},
         help="Smallest chunk in tokens reused by shifting; 0: none."),
    Knob("cache-ram", "int", 8192, -1, 1_048_576, help="Prompt cache in host memory in MiB; 0: none, -1: no limit."),
    Knob("threads-http", "int", None, 1, 512, log=True, help="Threads that handle HTTP."),
    Knob("poll", "int", 50, 0, 100, help="How busily threads wait for work, 0 (sleep) to 100 (spin)."),
    Knob("gpu-layers", "int", None, 0, 1024, coarse=True, help="Layers on the GPU; left out: as many as fit."),
)  # fmt: skip

FAILURES = (
    FailureRule(
        "out_of_memory",
        re.compile(r"failed to allocate buffer for kv cache|failed to allocate \S+ buffer of size|insufficient memory"),
        "memory does not suffice for the KV cache: lower ctx-size or parallel, or use a smaller cache-type",
        ("ctx-size", "parallel", "cache-type-k", "cache-type-v"),
    ),
    FailureRule(
        "bad_config",
        re.compile(r"n_seq_max must be <= (?P<most>\d+)"),
        "more slots than the server takes: set parallel to {most} or less",
        ("parallel",),
    ),
    FailureRule(
        "bad_config",
        re.compile(r"GGML_ASSERT\(n_outputs_max <= cparams\.n_outputs_max\) failed"),
        "batch-size is smaller than the number of slots: raise batch-size or lower parallel",
        ("batch-size", "parallel"),
    ),
    FailureRule(
        "bad_config",
        re.compile(r"quantized V cache requires flash_attn"),
        "a quantised cache-type-v needs flash-attn on: turn it on or use f16",
        ("cache-type-v", "flash-attn"),
    ),
    FailureRule(
        "out_of_memory",
        re.compile(r"Thread creation failed: Resource temporarily unavailable|what\(\):\s+Resource temporarily"),
        "this host cannot make so many threads: lower threads or parallel",
        ("threads", "parallel", "threads-batch", "threads-http"),
    ),
    FailureRule(
        "port_in_use",
        re.compile(r"couldn't bind HTTP server socket, hostname: (?P<host>\S+), port: (?P<port>\d+)"),
        "port {port} on {host} cannot be bound: stop what listens there or choose another",
        infeasible=False,
    ),
    FailureRule(
        "bad_model",
        re.compile(r"failed to open GGUF file '(?P<file>[^']*)'"),
        "model file {file} cannot be opened: check the path",
        infeasible=False,
    ),
    FailureRule(
        "bad_model",
        re.compile(r"gguf_init_from_\w+: (?P<why>invalid magic|failed to read)"),
        "the model file is damaged or not GGUF ({why}): fetch it again",
        infeasible=False,
    ),
    FailureRule(
        "bad_model",
        re.compile(r"failed to load model|error loading model"),
        "the model cannot be loaded: see the log for the reason",
        infeasible=False,
    ),
    FailureRule(
        "bad_config",
        re.compile(r"error: unrecognized arguments: (?P<flag>.+)|error: invalid argument: (?P<argument>.+)"),
        "llama-server does not know an argument (see the line): correct the plan's arguments",
        infeasible=False,
    ),
    FailureRule(
        "bad_config",
        re.compile(r"error: argument \S+: invalid|error while handling argument"),
        "llama-server cannot read a value (see the line): correct the plan's arguments",
        infeasible=False,
    ),
    FailureRule(
        "missing_program",
        re.compile(r"error: llama\.cpp's server is not installed|No module named '?engines"),
        "llama.cpp's server is not installed; run: pip install 'trtune[llamacpp]'",
        infeasible=False,
    ),
    FailureRule(
        "bad_config",
        re.compile(r"failed to create.context with model"),
        "the server could not make a context with these settings: see the lines before in the log",
        ("ctx-size", "parallel", "batch-size", "ubatch-size"),
    ),
    FailureRule(
        "crashed",
        re.compile(r"GGML_ASSERT\(.*\) failed"),
        "the server aborted on a check of its own: see the line; change the settings of this trial",
    ),
)
