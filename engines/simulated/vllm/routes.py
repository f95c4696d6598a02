"""The endpoints of a ready ``vllm serve``."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from engines.simulated.face import Face, json_response, metrics_response
from engines.simulated.vllm.generation import Generation
from engines.simulated.vllm.metrics import MetricsPage

if TYPE_CHECKING:
    from engines.simulated.faults import Faults
    from engines.simulated.model import Iteration
    from engines.simulated.pacing import PacedEngine
    from engines.simulated.telemetry import GpuTelemetry
    from engines.simulated.vllm.command_line import ServeCommand


DEVELOPMENT_VARIABLE: Final = "VLLM_SERVER_DEV_MODE"
"""Opens ``/server_info`` when it is 1 (contract others.md 1.1)."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Where a server puts what has no place in the OpenAI API; NIM moves these (contract nim.md 5.1)."""

    ready: tuple[str, ...] = ("/health", "/ping")
    metrics: str = "/metrics"


class VllmServer(Face):
    """Endpoints and metrics of one ready server."""

    def __init__(
        self,
        command: ServeCommand,
        version: str,
        engine: PacedEngine,
        telemetry: GpuTelemetry,
        faults: Faults,
        paths: Paths | None = None,
    ) -> None:
        super().__init__(engine)
        self._command = command
        self._version_text = version
        self._paced = engine
        self._telemetry = telemetry
        self._faults = faults
        self._paths = paths or Paths()
        fingerprint = f"vllm-{version}-simulated"
        self._generation = Generation(engine, command.served_names, fingerprint, faults.stream_cut_tokens)
        self._page = MetricsPage(engine.simulation, command.served_names[0], self._cache_config())
        self._created = int(time.time())
        engine.listen(self._observe)

    def _observe(self, iteration: Iteration) -> None:
        self._telemetry.observe(iteration, time.monotonic())
        if not self._command.disable_log_stats:
            self._page.observe(iteration)

    def _cache_config(self) -> dict[str, str]:
        command, plan = self._command, self._paced.simulation.plan
        return {
            "block_size": str(command.block_size),
            "cache_dtype": command.kv_cache_dtype,
            "enable_prefix_caching": str(command.enable_prefix_caching),
            "gpu_memory_utilization": str(command.gpu_memory_utilization),
            "kv_cache_max_concurrency": str(plan.kv_capacity_tokens / plan.max_seq_len),
            "kv_cache_memory_bytes": str(command.kv_cache_memory_bytes),
            "kv_cache_size_tokens": str(plan.kv_capacity_tokens),
            "num_gpu_blocks": str(plan.kv_blocks),
            "num_gpu_blocks_override": str(command.num_gpu_blocks_override),
            "prefix_caching_hash_algo": "sha256",
            "sliding_window": "None",
        }

    def application(self) -> web.Application:
        """Return the routes as an application."""
        app = super().application()
        add = app.router.add_route
        for path in self._paths.ready:
            add("GET", path, self._health)
        add("GET", "/version", self._version)
        add("GET", "/load", self._load)
        if os.environ.get(DEVELOPMENT_VARIABLE) == "1":
            add("GET", "/server_info", self._server_info)
        add("GET", "/v1/models", self._models)
        add("GET", self._paths.metrics, self._metrics)
        add("POST", "/tokenize", self._not_simulated)
        add("POST", "/v1/completions", self._generation.completions)
        add("POST", "/v1/chat/completions", self._generation.chat_completions)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, _: web.Request) -> web.Response:
        return json_response({"version": self._version_text})

    async def _server_info(self, _: web.Request) -> web.Response:
        """Tell the settings in force, in the JSON form's sections; the real answer's shape was not captured."""
        config = self._paced.simulation.config
        return json_response(
            {
                "vllm_config": {
                    "model_config": {"max_model_len": config.max_seq_len},
                    "scheduler_config": {
                        "max_num_seqs": config.max_batch_size,
                        "max_num_batched_tokens": config.max_num_tokens,
                        "enable_chunked_prefill": config.enable_chunked_prefill,
                        "async_scheduling": config.overlap_scheduler,
                    },
                    "parallel_config": {
                        "tensor_parallel_size": config.tensor_parallel_size,
                        "pipeline_parallel_size": config.pipeline_parallel_size,
                        "data_parallel_size": 1,
                    },
                }
            }
        )

    async def _load(self, _: web.Request) -> web.Response:
        return json_response({"server_load": self._paced.simulation.unfinished_requests})

    async def _metrics(self, _: web.Request) -> web.Response:
        await asyncio.sleep(self._faults.slow_metrics_s)
        return metrics_response(self._page.render())

    async def _not_simulated(self, _: web.Request) -> web.Response:
        return json_response({"error": {"message": "simulated: there is no tokenizer", "code": 501}}, 501)

    async def _models(self, _: web.Request) -> web.Response:
        return json_response({"object": "list", "data": [self._card(name) for name in self._command.served_names]})

    def _card(self, name: str) -> dict[str, Any]:
        permission = {
            "id": f"modelperm-{secrets.token_hex(8)}",
            "object": "model_permission",
            "created": self._created,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "vllm",
            "root": self._command.model,
            "parent": None,
            "max_model_len": self._paced.simulation.plan.max_seq_len,
            "permission": [permission],
        }
