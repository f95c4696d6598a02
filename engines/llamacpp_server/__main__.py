"""Command line of llama.cpp's server as far as a tuner needs it: `python -m engines.llamacpp_server -m FILE --port N`.

The wheel `xllamacpp` has no executable; it holds the C++ server as a library. Flags have llama-server's names and
meaning (tools/server/README.md of llama.cpp), and everything that answers HTTP is upstream code.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from dataclasses import dataclass
from typing import Any

WAKE_S = 0.5
"""How often the main thread wakes, since a signal handler runs only there."""

END_LIMIT_S = 10

CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
FLASH_ATTENTION = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}


@dataclass(frozen=True, slots=True)
class Flag:
    """One number of llama-server's command line and the member of the library's parameters it sets."""

    names: tuple[str, ...]
    members: tuple[str, ...]
    help: str


NUMBERS = (
    Flag(("-t", "--threads"), ("cpuparams.n_threads",), "CPU threads for generation"),
    Flag(("-tb", "--threads-batch"), ("cpuparams_batch.n_threads",), "CPU threads for prompts"),
    Flag(("--threads-http",), ("n_threads_http",), "threads that handle HTTP"),
    Flag(("--poll",), ("cpuparams.poll", "cpuparams_batch.poll"), "polling level while waiting, 0 to 100"),
    Flag(("-c", "--ctx-size"), ("n_ctx",), "context in tokens over all slots; 0: the model's"),
    Flag(("-b", "--batch-size"), ("n_batch",), "logical batch size in tokens"),
    Flag(("-ub", "--ubatch-size"), ("n_ubatch",), "physical batch size in tokens"),
    Flag(("-np", "--parallel"), ("n_parallel",), "slots"),
    Flag(("-ngl", "--gpu-layers"), ("n_gpu_layers",), "layers on the GPU"),
    Flag(("--cache-ram",), ("cache_ram_mib",), "prompt cache in MiB; 0: none, -1: no limit"),
    Flag(("--cache-reuse",), ("n_cache_reuse",), "smallest chunk to reuse from the cache by shifting"),
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="llamacpp_server", description=__doc__, allow_abbrev=False)
    made.add_argument("-m", "--model", required=True, help="GGUF file")
    made.add_argument("-a", "--alias", help="model name in answers")
    made.add_argument("--host", default="127.0.0.1")
    made.add_argument("--port", type=int, default=8080)
    for flag in NUMBERS:
        made.add_argument(*flag.names, type=int, dest=_dest(flag), help=flag.help)
    made.add_argument("-ctk", "--cache-type-k", choices=CACHE_TYPES)
    made.add_argument("-ctv", "--cache-type-v", choices=CACHE_TYPES)
    made.add_argument("-fa", "--flash-attn", choices=tuple(FLASH_ATTENTION))
    made.add_argument("--cont-batching", action=argparse.BooleanOptionalAction)
    made.add_argument("--cache-prompt", action=argparse.BooleanOptionalAction)
    made.add_argument("--kv-unified", action=argparse.BooleanOptionalAction)
    made.add_argument("--warmup", action=argparse.BooleanOptionalAction)
    made.add_argument("--slots", action=argparse.BooleanOptionalAction)
    made.add_argument("--metrics", action="store_true")
    made.add_argument("--props", action="store_true")
    return made


def _dest(flag: Flag) -> str:
    return flag.names[-1].lstrip("-").replace("-", "_")


def parameters(options: argparse.Namespace) -> Any:
    """The library's parameters; what is not given keeps the library's default."""
    import xllamacpp

    made = xllamacpp.CommonParams()
    made.model.path = options.model
    made.hostnames = [options.host]
    made.port = options.port
    made.endpoint_metrics = options.metrics
    made.endpoint_props = options.props
    if options.alias is not None:
        made.model_alias = {options.alias}
    if options.threads is not None and options.threads_batch is None:
        options.threads_batch = options.threads
    for flag in NUMBERS:
        for member in flag.members:
            _set(made, member, getattr(options, _dest(flag)))
    for name in ("cont_batching", "cache_prompt", "kv_unified", "warmup"):
        _set(made, name, getattr(options, name))
    _set(made, "endpoint_slots", options.slots)
    for name in ("cache_type_k", "cache_type_v"):
        if value := getattr(options, name):
            setattr(made, name, getattr(xllamacpp.ggml_type, f"GGML_TYPE_{value.upper()}"))
    if options.flash_attn:
        kind = f"LLAMA_FLASH_ATTN_TYPE_{FLASH_ATTENTION[options.flash_attn]}"
        made.flash_attn_type = getattr(xllamacpp.llama_flash_attn_type, kind)
    return made


def _set(target: Any, member: str, value: object) -> None:
    if value is None:
        return
    *owners, name = member.split(".")
    for owner in owners:
        target = getattr(target, owner)
    setattr(target, name, value)


def main() -> int:
    """Run the server until SIGINT or SIGTERM."""
    options = parser().parse_args()
    try:
        import xllamacpp
    except ImportError:
        sys.stderr.write("error: llama.cpp's server is not installed; run: pip install 'trtune[llamacpp]'\n")
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = xllamacpp.Server(parameters(options))
    except (RuntimeError, ValueError, OSError) as error:
        sys.stderr.write(f"error: the server did not start: {error}\n")
        return 1
    sys.stdout.write(f"xllamacpp {xllamacpp.__version__} listens on {server.listening_address}\n")
    sys.stdout.flush()
    while not stop.wait(WAKE_S):
        pass
    # The library's end can wait for ever when it is stopped in the moment it starts; SIGALRM then ends the process.
    signal.alarm(END_LIMIT_S)
    del server
    return 0


if __name__ == "__main__":
    sys.exit(main())
