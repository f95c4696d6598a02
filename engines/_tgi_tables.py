"""Knobs and failure texts of TGI (contract others 3: launcher and router sources; texts from its issue tracker).

Its README says maintenance mode. Nothing here was run.
"""

from __future__ import annotations

import re

from engines._common_failures import python_server_rules
from engines.failure import FailureRule
from engines.knob import Knob

TOKEN_BUDGETS = (2048, 4096, 8192, 16384, 32768)
PREFILL = "max-batch-prefill-tokens"
TOTAL = "max-batch-total-tokens"
GRAPHS = (None, "0", "1,2,4,8,16,32", "1,2,4,8,16,32,64,128")

KNOBS = (
    Knob("max-concurrent-requests", "int", 128, 1, 65_536, log=True, choices=(64, 128, 256, 512, 1024), searched=True,
         help="Requests beyond it are refused with 429."),
    Knob(PREFILL, "int", None, 64, 262_144, log=True, choices=TOKEN_BUDGETS, searched=True,
         help="Token budget of a prefill; left out: max-input-tokens + 50."),
    Knob(TOTAL, "int", None, 64, 100_000_000, log=True,
         help="Token budget of the whole batch, which is the KV cache; left out: what fits."),
    Knob("max-input-tokens", "int", None, 16, 10_000_000, log=True, help="Most tokens of a prompt."),
    Knob("max-total-tokens", "int", None, 16, 10_000_000, log=True, help="Most tokens of prompt and output."),
    Knob("max-batch-size", "int", None, 1, 8192, log=True, help="Most requests in a batch."),
    Knob("waiting-served-ratio", "float", 0.3, 0.0, 10.0, choices=(0.1, 0.3, 0.6, 1.2), searched=True,
         help="Waiting to running requests from which running ones are paused for a prefill."),
    Knob("max-waiting-tokens", "int", 20, 0, 10_000, choices=(1, 5, 10, 20, 50), searched=True,
         help="Tokens to generate before waiting requests must be let in."),
    Knob("num-shard", "int", 1, 1, 64, log=True, choices=(1, 2, 4, 8), coarse=True, searched=True,
         help="GPUs that share each layer."),
    Knob("cuda-graphs", "choice", None, choices=GRAPHS, help="Batch sizes with a CUDA graph; 0: none."),
    Knob("cuda-memory-fraction", "float", 1.0, 0.05, 1.0, help="Limit on the process's GPU memory."),
    Knob("kv-cache-dtype", "choice", None, choices=(None, "fp8_e4m3fn", "fp8_e5m2"), coarse=True,
         help="Data type of the KV cache; left out: the model's."),
    Knob("dtype", "choice", None, choices=(None, "float16", "bfloat16"), coarse=True, help="Data type of the weights."),
    Knob("quantize", "choice", None, choices=(None, "awq", "gptq", "eetq", "fp8", "bitsandbytes"), coarse=True,
         help="Quantisation of the weights."),
    Knob("speculate", "int", None, 0, 16, help="Tokens guessed in each step, by n-gram where the model has no heads."),
)  # fmt: skip

FAILURES = (
    FailureRule(
        "out_of_memory",
        re.compile(r"Not enough memory to handle (?P<tokens>\d+) (?:total tokens|prefill tokens)"),
        "GPU memory does not suffice for {tokens} tokens: lower max-batch-prefill-tokens or max-batch-total-tokens",
        (PREFILL, TOTAL, "num-shard"),
    ),
    FailureRule(
        "bad_config",
        re.compile(r"`max_(?:input_tokens|input_length|total_tokens|batch_\w+)` must be"),
        "the token limits do not fit together (see the line): max-input-tokens < max-total-tokens <= the batch's",
        ("max-input-tokens", "max-total-tokens", PREFILL, TOTAL),
    ),
    FailureRule(
        "bad_config",
        re.compile(r"error: (?:unexpected argument|invalid value) '(?P<argument>[^']*)'"),
        "this version of TGI does not take {argument}: correct the plan",
    ),
    FailureRule(
        "bad_config",
        re.compile(r"NotEnoughCUDADevices|only found \d+ CUDA devices"),
        "fewer GPUs are there than shards: lower num-shard",
        ("num-shard",),
    ),
    *python_server_rules("TGI", (PREFILL, TOTAL), ("num-shard",)),
    FailureRule(
        "worker_died",
        re.compile(r"Shard \d+ failed to start|ShardCannotStart"),
        "a shard failed at start: the cause is in the log before this line",
    ),
)
