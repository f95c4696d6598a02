"""What log lines mean that servers written in Python share: argparse, uvicorn, PyTorch, NCCL, huggingface_hub."""

from __future__ import annotations

import re

from engines.failure import FailureRule


def python_server_rules(title: str, memory: tuple[str, ...], parallel: tuple[str, ...]) -> tuple[FailureRule, ...]:
    """The rules, to be put between an engine's specific ones and its generic ones.

    Args:
        title: The server's name.
        memory: Knobs to move when GPU memory does not suffice, most likely first.
        parallel: Knobs that spread the model over GPUs.
    """
    return (
        FailureRule(
            "bad_config",
            re.compile(r"error: unrecognized arguments: (?P<arguments>.+)"),
            f"this version of {title} does not know {{arguments}}: leave it out, or update the server",
        ),
        FailureRule(
            "bad_config",
            re.compile(r"error: argument (?P<argument>[^:]+): "),
            f"{title} refuses the value of {{argument}}: correct it (see the line)",
        ),
        FailureRule(
            "no_gpu",
            re.compile(r"Failed to infer device type|No CUDA GPUs are available|Found no NVIDIA driver"),
            "the server finds no GPU: start it on a host with one, or check the container's GPU access",
            infeasible=False,
        ),
        FailureRule(
            "port_in_use",
            re.compile(r"\[Errno 98\]|[Aa]ddress already in use"),
            "the server's port is taken: stop what listens there or choose another",
            infeasible=False,
        ),
        FailureRule(
            "bad_model",
            re.compile(
                r"RepositoryNotFoundError|GatedRepoError|Can't load the configuration of|Invalid repository ID"
                r"|is not a local folder and is not a valid model identifier"
            ),
            "the model cannot be fetched: check its name, the path, and the access token in the environment",
            infeasible=False,
        ),
        FailureRule(
            "unsupported",
            re.compile(r"no kernel image is available for execution"),
            "this GPU has no kernel for these settings: change the quantisation, the data type or the backend",
            fatal=False,
        ),
        FailureRule(
            "out_of_memory",
            re.compile(r"torch\.(?:cuda\.)?OutOfMemoryError|CUDA out of memory|CUDA error: out of memory"),
            f"GPU memory does not suffice: change {', '.join(memory[:2])} or use more GPUs",
            (*memory, *parallel),
            fatal=False,
        ),
        FailureRule(
            "nccl",
            re.compile(r"NCCL error|unhandled cuda error|unhandled system error"),
            f"the GPUs could not be joined: check peer access and shared memory, or lower {parallel[0]}",
            (*parallel, *memory[:1]),
            fatal=False,
        ),
        FailureRule(
            "shared_memory",
            re.compile(r"[Bb]us error|No space left on device.*shm"),
            "shared memory is too small: give the container host IPC or a larger /dev/shm",
            fatal=False,
            infeasible=False,
        ),
    )
