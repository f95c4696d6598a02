"""The problems the search is judged on: model x GPU x workload x objective, on the simulated engine in virtual time.

Every scenario's whole grid is enumerated once (`enumeration.py`), so that the best reachable value is known.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engines.knob import Knob
from engines.trtllm import ENGINE
from sessions.slo import Slo
from tuner.search.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from engines.knob import Value

VARIANT = "checkpoint"
"""The knob that chooses the model's variant; the variants are named as checkpoints are."""

BATCH = "max_batch_size"
TOKENS = "max_num_tokens"
TP, PP = "tensor_parallel_size", "pipeline_parallel_size"
CHUNKED = "enable_chunked_prefill"
POLICY = "scheduler_config.capacity_scheduler_policy"
FRACTION = "kv_cache_config.free_gpu_memory_fraction"
KV_DTYPE = "kv_cache_config.dtype"
GRAPH_BATCH = "cuda_graph_config.max_batch_size"
GRAPH_PADDING = "cuda_graph_config.enable_padding"

PER_GPU = "output_token_throughput_per_gpu"
PER_USER = "output_token_throughput_per_user"
THROUGHPUT = "output_token_throughput"
LADDER = (8, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One problem.

    Attributes:
        name: Short name.
        models: Variants of the model that may be served; the first is the unaltered one.
        gpu: Name of the GPU type.
        gpu_count: GPUs of the host.
        input_tokens: Mean prompt length; lengths are uniform within 30 % of it.
        output_tokens: Mean output length.
        levels: Concurrencies, lightest first.
        objective: What counts as better.
        domains: Values of the searched knobs that differ from `DOMAINS`.
        gate_fails: Variants that fail the quality gate.
        every_level: Whether the enumeration keeps what every level comes to, also beyond a broken SLO: for several objectives.
    """

    name: str
    models: tuple[str, ...]
    gpu: str
    gpu_count: int
    input_tokens: int
    output_tokens: int
    levels: tuple[int, ...]
    objective: Objective
    domains: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    gate_fails: frozenset[str] = frozenset()
    every_level: bool = False

    @property
    def longest_tokens(self) -> int:
        """Prompt and output of the longest request."""
        return round(1.3 * self.input_tokens) + round(1.3 * self.output_tokens) + 2

    def values(self) -> dict[str, tuple[Value, ...]]:
        """Every knob that is searched here, with its values."""
        sizes = tuple(size for size in (1, 2, 4, 8) if size <= self.gpu_count)
        values: dict[str, tuple[Value, ...]] = {TP: sizes, **DOMAINS, **self.domains}
        return {VARIANT: self.models, **values} if len(self.models) > 1 else values

    def knobs(self) -> tuple[Knob, ...]:
        """The searched knobs as the engine describes them, with this scenario's grids."""
        own = {knob.name: knob for knob in ENGINE.knobs()}
        own[VARIANT] = Knob(VARIANT, "choice", self.models[0], choices=self.models, coarse=True, help="Model variant.")
        return tuple(_on_grid(own[name], values) for name, values in self.values().items())

    def configurations(self) -> Iterator[dict[str, Value]]:
        """The whole grid, without what the engine says cannot work together."""
        values = self.values()
        for chosen in itertools.product(*values.values()):
            params = dict(zip(values, chosen, strict=True))
            if ENGINE.conflicts(params) is None:
                yield params


def _on_grid(knob: Knob, values: tuple[Value, ...]) -> Knob:
    kind = "bool" if knob.kind == "bool" else knob.kind
    return Knob(
        knob.name,
        kind,
        knob.default,
        knob.low,
        knob.high,
        log=knob.log,
        choices=values,
        coarse=knob.coarse,
        searched=True,
        help=knob.help,
    )


DOMAINS: Mapping[str, tuple[Value, ...]] = {
    PP: (1, 2),
    BATCH: (8, 16, 32, 64, 128, 256),
    TOKENS: (1024, 2048, 4096, 8192, 16384),
    CHUNKED: (False, True),
    POLICY: ("GUARANTEED_NO_EVICT", "MAX_UTILIZATION"),
    FRACTION: (0.8, 0.9, 0.95),
    KV_DTYPE: ("auto", "fp8"),
    GRAPH_BATCH: (8, 32, 128, 256),
    GRAPH_PADDING: (False, True),
}
"""Values of the knobs every scenario searches."""


def _most(metric: str, ttft_p99_ms: float = 0, tpot_p99_ms: float = 0) -> Objective:
    limits = (("ttft", ttft_p99_ms), ("tpot", tpot_p99_ms))
    return Objective(metric, "avg", "maximize", tuple(Slo(name, "p99", "<=", ms) for name, ms in limits if ms))


SCENARIOS = (
    Scenario("8b-h100-chat-slo", ("llama-3.1-8b",), "h100-sxm", 4, 1000, 128, LADDER, _most(THROUGHPUT, 300, 20)),
    Scenario("8b-h200-summary", ("llama-3.1-8b",), "h200", 2, 3000, 128, (64,), _most(THROUGHPUT)),
    Scenario("8b-l40s-chat-cost", ("llama-3.1-8b",), "l40s", 4, 1000, 128, LADDER, _most(PER_GPU, 0, 70)),
    Scenario("70b-h100-chat-slo", ("llama-3.3-70b-fp8",), "h100-sxm", 4, 1000, 128, LADDER, _most(THROUGHPUT, 500, 40)),
    Scenario("70b-h100-generate", ("llama-3.3-70b-fp8",), "h100-sxm", 8, 256, 256, (128,), _most(THROUGHPUT),
             {FRACTION: (0.8, 0.9), GRAPH_BATCH: (8, 32, 256), TOKENS: (1024, 2048, 8192, 16384)}),
    Scenario(
        "70b-h200-variants-slo",
        ("llama-3.3-70b", "llama-3.3-70b-fp8", "llama-3.3-70b-int4-awq"),
        "h200", 4, 1000, 128, (16, 32, 64), _most(THROUGHPUT, 800, 40),
        {PP: (1,), FRACTION: (0.9,), GRAPH_BATCH: (8, 32, 256)}, frozenset({"llama-3.3-70b-int4-awq"}), every_level=True,
    ),
    Scenario("mixtral-a100-chat", ("mixtral-8x7b",), "a100-sxm", 4, 1000, 128, (64,), _most(THROUGHPUT), {KV_DTYPE: ("auto",)}),
    Scenario("a3b-h100pcie-latency", ("qwen3-30b-a3b", "qwen3-30b-a3b-fp8"), "h100-pcie", 2, 500, 200, (16,),
             Objective("e2e", "p50", "minimize")),
    Scenario("7b-l4-short-slo", ("qwen2.5-7b", "qwen2.5-7b-awq"), "l4", 4, 256, 128, (8, 16, 32, 64),
             _most(THROUGHPUT, 1500, 80), {FRACTION: (0.9,), GRAPH_BATCH: (8, 32, 128)}),
    Scenario("32b-b200-long", ("qwen3-32b", "qwen3-32b-fp8"), "b200", 2, 4000, 128, (32,), _most(THROUGHPUT)),
    Scenario("405b-h200-cost-slo", ("llama-3.1-405b-fp8",), "h200", 8, 1000, 128, (8, 16, 32, 64),
             _most(PER_GPU, 3000, 70), every_level=True),
    Scenario("7b-a100pcie-tokens", ("mistral-7b",), "a100-pcie", 4, 500, 200, (32,), Objective("tpot", "p50", "minimize"),
             {KV_DTYPE: ("auto",)}),
)  # fmt: skip
