"""SGLang's server (contract others 2)."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, ClassVar

from engines._flag_server import FlagServer
from engines._flags import batch_for
from engines._http import get_json_or_none
from engines._models_page import first_model
from engines._page_metrics import PageMetrics
from engines._sglang_metrics import SglangReader
from engines._sglang_tables import FAILURES, KNOBS, REQUESTS
from engines.base import ServerInfo
from engines.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from engines.failure import FailureRule
    from engines.knob import Knob, Value
    from engines.launch.spec import LaunchRequest
    from engines.sample import MetricsSource

QUIET_HEALTH: Mapping[str, str] = {"SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0"}
"""Without it each look at `/health` runs a request, which disturbs what is measured."""

ALIASES = {
    "tp": "tp-size",
    "tensor-parallel-size": "tp-size",
    "pipeline-parallel-size": "pp-size",
    "dp": "dp-size",
    "data-parallel-size": "dp-size",
    "ep": "ep-size",
    "expert-parallel-size": "ep-size",
    "cuda-graph-max-bs": "cuda-graph-max-bs-decode",
}


class Sglang(FlagServer):
    """SGLang. Metrics are off by default, so the server is started with `--enable-metrics`."""

    name: ClassVar[str] = "sglang"
    title: ClassVar[str] = "SGLang"
    profiling: ClassVar[str] = "start it with SGLANG_TORCH_PROFILER_DIR set"
    program: ClassVar[str] = "sglang"
    install: ClassVar[str] = "pip install sglang"
    images: ClassVar[str] = "lmsysorg/sglang"
    flags: ClassVar[tuple[Knob, ...]] = KNOBS
    failures: ClassVar[tuple[FailureRule, ...]] = FAILURES
    own_options: ClassVar[frozenset[str]] = frozenset(
        {"--host", "--port", "--model-path", "--model", "--enable-metrics"}
    )
    aliases: ClassVar[Mapping[str, str]] = ALIASES

    def words(self, request: LaunchRequest, host: str, port: int) -> tuple[str, ...]:
        """The module with its model and address."""
        python = "python3" if request.container else sys.executable
        command = request.command or (python, "-m", "sglang.launch_server")
        return (*command, "--model-path", request.model, "--host", host, "--port", str(port), "--enable-metrics")

    def variables(self, host: str) -> Mapping[str, str]:
        """Keeps health checks from running requests."""
        return QUIET_HEALTH

    def metrics(self, http: aiohttp.ClientSession, url: str) -> MetricsSource:
        """Reads `/metrics`."""
        hint = "start SGLang with --enable-metrics"
        return PageMetrics(http, f"{url}/metrics", SglangReader().read, hint, self.title)

    async def inspect(self, http: aiohttp.ClientSession, url: str) -> ServerInfo:
        """Version, model and the arguments in force, from `/get_server_info` (contract others 2.1).

        Of the arguments only those that are knobs are taken: they also hold the API keys.

        Raises:
            Unreachable: If nobody answers.
            EngineError: If it is no SGLang server.
        """
        card = await first_model(http, url)
        told = await get_json_or_none(http, f"{url}/get_server_info")
        if not isinstance(told, dict):
            told = await get_json_or_none(http, f"{url}/server_info")
        if not isinstance(told, dict) or "mem_fraction_static" not in told:
            raise EngineError(f"{url} is not an SGLang server: it has no /get_server_info")
        return ServerInfo(str(told.get("version", "")), card.name, _settings(told))

    def available(self) -> tuple[bool, str]:
        """Whether the package is in this Python environment: the server is started as its module."""
        if importlib.util.find_spec("sglang"):
            return True, "SGLang from the package sglang of this Python environment"
        return False, "the package sglang is not installed; a running server can be watched and measured all the same"

    def starting_points(self, concurrency: float) -> tuple[dict[str, Value], ...]:
        """What upstream's tuning guide recommends: more memory, less caution, graphs as large as the batch."""
        batch = batch_for(REQUESTS, concurrency)
        return (
            {"mem-fraction-static": 0.9, "schedule-conservativeness": 0.3},
            {"max-running-requests": batch, "mem-fraction-static": 0.88},
            {"chunked-prefill-size": 4096, "enable-mixed-chunk": True},
            {"schedule-policy": "lpm"},
        )

    def conflicts(self, params: Mapping[str, Value]) -> str | None:
        """What SGLang refuses, or what has no effect next to another setting."""
        if params.get("disable-radix-cache") and params.get("schedule-policy") in ("lpm", "dfs-weight"):
            return f"schedule-policy {params['schedule-policy']} has no effect without the radix cache"
        if params.get("disable-radix-cache") and params.get("enable-hierarchical-cache"):
            return "enable-hierarchical-cache needs the radix cache"
        if params.get("enable-mixed-chunk") and params.get("chunked-prefill-size") == -1:
            return "enable-mixed-chunk has no effect with chunked-prefill-size -1"
        return None


def _settings(told: Mapping[str, object]) -> dict[str, Value]:
    """Arguments in force that are knobs and of the knob's type."""
    found: dict[str, Value] = {}
    for knob in KNOBS:
        value = told.get(knob.name.replace("-", "_"))
        if isinstance(value, bool | int | float | str) and knob.allows(value):
            found[knob.name] = value
    return found


ENGINE = Sglang()
"""What `engines.registry` finds."""
