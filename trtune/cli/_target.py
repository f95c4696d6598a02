"""Flags for a running server, and the plan parts they make."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_target_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that name a running server."""
    parser.add_argument("url", help="base URL of the server, such as http://127.0.0.1:8000")
    parser.add_argument("--engine", help="which family of server it is (default: found out by asking it)")
    parser.add_argument("--model", default="", help="model name to ask for (default: the one it serves)")
    parser.add_argument("--api-key-env", default="", metavar="NAME", help="environment variable that holds the API key")
    parser.add_argument("--dcgm", default="", metavar="URL", help="dcgm-exporter of the server's host")
    parser.add_argument(
        "--session", metavar="FILE", help="where to record (default: a new file in the sessions folder)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="set any field of the plan")


def server_url(told: str) -> str:
    """The base URL that a user means, without `/v1`.

    Raises:
        UsageError: If it is none.
    """
    from urllib.parse import urlsplit

    from trtune.errors import UsageError

    try:
        parts = urlsplit(told)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0  # port: raises too
    except ValueError:  # what is no port, or no IPv6 address
        usable = False
    if not usable:
        raise UsageError(f"{told}: not a server's URL; write it like http://127.0.0.1:8000")
    return told.rstrip("/").removesuffix("/v1")


def engine_at(url: str, args: argparse.Namespace) -> str:
    """The engine that `--engine` names, else what is found out by asking, with the API key of `--api-key-env`.

    Raises:
        Unreachable: If nobody answers at the URL.
        UsageError: If the variable is not set.
    """
    import os

    from trtune.detect import detect_engine
    from trtune.errors import UsageError
    from tuner.server import bearer_headers

    if args.api_key_env and not os.environ.get(args.api_key_env):
        raise UsageError(
            f"--api-key-env {args.api_key_env}: there is no such variable in the environment, or it is empty"
        )
    return args.engine or asyncio.run(detect_engine(url, bearer_headers(args.api_key_env)))


def target_tables(args: argparse.Namespace, kind: str) -> dict[str, Any]:
    """Plan tables for the server that the flags name.

    Raises:
        Unreachable: If nobody answers at the URL.
        UsageError: If it is no URL.
    """
    from urllib.parse import urlsplit

    url = server_url(args.url)
    engine = engine_at(url, args)
    host = urlsplit(url).hostname
    local = host in ("localhost", "127.0.0.1", "::1")
    return {
        "kind": kind,
        "name": f"{kind}-{host}",
        "engine": {
            "name": engine,
            "launch": "attach",
            "url": url,
            "model": args.model,
            "api_key_env": args.api_key_env,
        },
        # This host's GPUs say nothing about a server elsewhere (contract gpu_telemetry, section 4).
        "gpu": {"local": local, "dcgm_url": args.dcgm},
    }
