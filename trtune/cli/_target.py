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


def target_tables(args: argparse.Namespace, kind: str) -> dict[str, Any]:
    """Plan tables for the server that the flags name.

    Raises:
        Unreachable: If nobody answers at the URL.
    """
    from urllib.parse import urlsplit

    from trtune.detect import detect_engine
    from trtune.errors import UsageError
    from tuner.server import bearer_headers

    parts = urlsplit(args.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{args.url}: not a server's URL; write it like http://127.0.0.1:8000")
    engine = args.engine or asyncio.run(detect_engine(args.url, bearer_headers(args.api_key_env)))
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return {
        "kind": kind,
        "name": f"{kind}-{parts.hostname}",
        "engine": {
            "name": engine,
            "launch": "attach",
            "url": args.url.rstrip("/").removesuffix("/v1"),
            "model": args.model,
            "api_key_env": args.api_key_env,
        },
        # This host's GPUs say nothing about a server elsewhere (contract gpu_telemetry, section 4).
        "gpu": {"local": local, "dcgm_url": args.dcgm},
    }
