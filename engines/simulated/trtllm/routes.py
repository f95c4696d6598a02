"""The endpoints of a ready ``trtllm-serve`` (contract section 2.1), and which versions have them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

from engines.simulated.face import Face, json_response, metrics_response
from engines.simulated.trtllm.generation import Generation
from engines.simulated.trtllm.iteration_records import IterationRecord, RecordFormat, log_line
from engines.simulated.trtllm.prometheus import PrometheusPage
from engines.simulated.trtllm.protocol import error_body
from engines.simulated.trtllm.request_records import perf_record
from engines.simulated.trtllm.start_log import log
from engines.simulated.trtllm.statistics import Regime, StatisticsBuffers
from engines.simulated.trtllm.versions import V1_1, V1_3, V1_3_LATE, V1_3_STEP_TIMES, ServerVersion

if TYPE_CHECKING:
    from engines.simulated.exposition import Labels
    from engines.simulated.faults import Faults
    from engines.simulated.model import Iteration, RequestState
    from engines.simulated.pacing import PacedEngine
    from engines.simulated.telemetry import GpuTelemetry
    from engines.simulated.trtllm.arguments import TorchLlmArgs

_CLOCK_PAUSE_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the server says it is.

    Attributes:
        name: id of the one model card.
        version: TensorRT-LLM version imitated.
        arguments: settings in force.
        faults: what shall go wrong.
    """

    name: str
    version: ServerVersion
    arguments: TorchLlmArgs
    faults: Faults


class TrtllmServer(Face):
    """Endpoints, statistics and metrics of one ready server."""

    def __init__(self, served: ServedModel, engine: PacedEngine, telemetry: GpuTelemetry) -> None:
        super().__init__(engine)
        self._served = served
        self._engine = engine
        self._telemetry = telemetry
        self._generation = Generation(
            engine,
            cut_after_tokens=served.faults.stream_cut_tokens,
            offers_timing=served.version >= V1_3_LATE and served.arguments.return_perf_metrics,
        )
        self._created = int(time.time())
        simulation = engine.simulation
        config = simulation.config
        pipelined = config.pipeline_parallel_size > 1
        self._format = RecordFormat(
            version=served.version,
            max_active_requests=config.max_batch_size * config.pipeline_parallel_size,
            attention_window=simulation.plan.max_seq_len,
            overlap=config.overlap_scheduler or pipelined,
        )
        self._page = PrometheusPage(served.version, served.name, self._config_info())
        self._statistics = StatisticsBuffers(served.arguments, served.version, self._page.observe_iteration)
        self._wants_records = self._statistics.regime is not Regime.DISABLED or served.arguments.print_iter_log
        self._perf_records: deque[dict[str, Any]] = deque(maxlen=served.arguments.perf_metrics_max_requests or None)
        self._keeps_perf_records = (
            served.arguments.return_perf_metrics and served.arguments.perf_metrics_max_requests > 0
        )
        self._clock_offset_s = time.monotonic()
        self._sequence = 0
        self._profiling = False
        self._last_kv = simulation.kv
        self._last_duration_ms = 0.0
        self._last_gpu_ms = 0.0
        engine.listen(self._observe)

    def _config_info(self) -> dict[str, Labels]:
        """Return the info gauges of 1.3 (contract section 3.3)."""
        if self._served.version < V1_3:
            return {}
        simulation, arguments = self._engine.simulation, self._served.arguments
        checkpoint = simulation.checkpoint
        kv = arguments.kv_cache_config
        return {
            "model_config_info": {
                "model": self._served.name,
                "served_model_name": self._served.name,
                "dtype": "bfloat16",
                "quantization": str(checkpoint.weight_precision),
                "max_model_len": str(simulation.plan.max_seq_len),
                "gpu_type": simulation.gpu.product_name,
            },
            "parallel_config_info": {
                "tensor_parallel_size": str(arguments.tensor_parallel_size),
                "pipeline_parallel_size": str(arguments.pipeline_parallel_size),
                "context_parallel_size": str(arguments.context_parallel_size),
                "gpu_count": str(simulation.config.world_size),
                "expert_parallel_size": str(arguments.moe_expert_parallel_size or 1),
            },
            "kv_cache_config_info": {
                "page_size": str(kv.tokens_per_block),
                "enable_block_reuse": str(kv.enable_block_reuse),
                "enable_partial_reuse": str(kv.enable_partial_reuse),
                "free_gpu_memory_fraction": str(kv.free_gpu_memory_fraction),
                "cache_dtype": kv.dtype,
            },
        }

    def _observe(self, iteration: Iteration) -> None:
        """Feed one finished iteration to every kind of metrics."""
        self._telemetry.observe(iteration, time.monotonic())
        if self._wants_records and iteration.scheduled_requests:
            self._append_record(iteration)
        for state in iteration.completed:
            self._observe_request(state)

    def _append_record(self, iteration: Iteration) -> None:
        record = IterationRecord(
            iteration=iteration,
            built_at_s=time.time() - iteration.duration_ms / 1e3,
            previous_kv=self._last_kv,
            previous_duration_ms=self._last_duration_ms,
            previous_gpu_ms=self._last_gpu_ms,
            gpu_memory_bytes=int(self._engine.simulation.plan.used_bytes),
            sequence=self._sequence,
            dropped=self._statistics.dropped,
        )
        self._sequence += 1
        self._last_kv = iteration.kv
        self._last_duration_ms = iteration.duration_ms
        self._last_gpu_ms = iteration.cost.gpu_ms
        self._statistics.append(record)
        if self._served.arguments.print_iter_log:
            log(log_line(record))

    def _observe_request(self, state: RequestState) -> None:
        self._statistics.request_completed()
        if self._served.arguments.return_perf_metrics:
            self._page.observe_request(state)
        if self._keeps_perf_records:
            self._perf_records.append(perf_record(state, self._clock_offset_s))

    def application(self) -> web.Application:
        """Return the routes of this version as an application."""
        app = super().application()
        add = app.router.add_route
        add("GET", "/health", self._health)
        add("GET", "/health_generate", self._health_generate)
        add("GET", "/version", self._version)
        add("GET", "/v1/models", self._models)
        add("GET", "/metrics", self._metrics)
        add("POST", "/kv_cache_events", self._kv_cache_events)
        add("POST", "/v1/completions", self._generation.completions)
        add("POST", "/v1/chat/completions", self._generation.chat_completions)
        version = self._served.version
        if version >= V1_1:
            add("GET", "/steady_clock_offset", self._steady_clock_offset)
            add("POST", "/v1/responses", self._responses)
        if version >= V1_1 and self._served.arguments.return_perf_metrics:
            add("GET", "/prometheus/metrics", self._prometheus)
            add("GET", "/prometheus/metrics/", self._prometheus)
        if V1_1 <= version < V1_3_LATE:
            add("GET", "/perf_metrics", self._perf_metrics)
        if version >= V1_3_STEP_TIMES:
            add("POST", "/start_profile", self._start_profile)
            add("POST", "/stop_profile", self._stop_profile)
        if version >= V1_3:
            add("GET", "/server_info", self._server_info)
            add("GET", "/energy_metrics", self._energy_metrics)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _health_generate(self, _: web.Request) -> web.Response:
        await self._generation.probe()
        return web.Response(body=b"Generation health check OK", headers={"Content-Type": "text/plain"})

    async def _version(self, _: web.Request) -> web.Response:
        return json_response({"version": str(self._served.version)})

    async def _models(self, _: web.Request) -> web.Response:
        card = {
            "id": self._served.name,
            "object": "model",
            "created": self._created,
            "owned_by": "tensorrt_llm",
        }
        return json_response({"object": "list", "data": [card]})

    async def _metrics(self, _: web.Request) -> web.Response:
        await asyncio.sleep(self._served.faults.slow_metrics_s)
        return json_response([self._format.render(record) for record in await self._statistics.read()])

    async def _prometheus(self, _: web.Request) -> web.Response:
        await asyncio.sleep(self._served.faults.slow_metrics_s)
        return metrics_response(self._page.render())

    async def _perf_metrics(self, _: web.Request) -> web.Response:
        records = list(self._perf_records)
        self._perf_records.clear()
        return json_response(records)

    async def _kv_cache_events(self, _: web.Request) -> web.Response:
        return json_response([])

    async def _start_profile(self, _: web.Request) -> web.Response:
        """Nothing is recorded; only one window can be open."""
        if self._profiling:
            return web.json_response({"error": "A profiling window is already active"}, status=409)
        self._profiling = True
        return json_response({"message": "Profiling started"})

    async def _stop_profile(self, _: web.Request) -> web.Response:
        self._profiling = False
        return json_response({"message": "Profiling stopped"})

    async def _server_info(self, _: web.Request) -> web.Response:
        simulation = self._engine.simulation
        startup = simulation.startup
        return json_response(
            {
                "disaggregated_params": {},
                "max_batch_size": simulation.config.max_batch_size,
                "kv_cache_hash_algo": "auto",
                "tokens_per_block": simulation.config.tokens_per_block,
                "render_fingerprint": None,
                "startup_metrics": {
                    "model_load_s": startup.weights_s,
                    "kv_cache_estimation_s": startup.estimation_s,
                    "cuda_graph_capture_s": startup.graphs_s,
                },
            }
        )

    async def _energy_metrics(self, _: web.Request) -> web.Response:
        if not self._served.arguments.enable_energy_metrics:
            body = orjson.dumps({"error": "Energy metrics are not enabled"})
            return web.Response(status=503, body=body, content_type="application/json")
        now_s = time.monotonic()
        return json_response(
            {"total_energy_j": self._telemetry.total_energy_j(now_s), "query_time": time.perf_counter()}
        )

    async def _steady_clock_offset(self, _: web.Request) -> web.Response:
        receive_ts = time.monotonic()
        await asyncio.sleep(_CLOCK_PAUSE_S)
        return json_response({"receive_ts": receive_ts, "transmit_ts": time.monotonic()})

    async def _responses(self, _: web.Request) -> web.Response:
        body = error_body("Responses API only supports harmony format for now")
        return web.Response(status=400, body=body, content_type="application/json")
