"""Compare the simulated engine with what one H200 really did, row by row.

The measured server was vLLM with an 8B Llama shape and dummy weights (its chunked prefill and captured graphs are set here
as well), so this calibrates the step times, not TensorRT-LLM's scheduler.

The rows called "capture" are the six levels of one recorded run. The requests of each level follow from its counters (1226
requests, 858,244 prompt and 230,192 output tokens). 228,832 of the prompt tokens were found in the prefix cache, but not at
which level: the first level can have left 6 prompts to the second, and the rest is spread evenly over the other four. The
requests of the other rows are known only for three of them; the rest use the same multiple.

The median TTFT of a closed loop depends on how the waves of requests line up, and is the least certain figure: at 256 streams
half of 512 requests come in one burst and wait seconds for their turn, the other half come one by one into a full batch and wait
for a step or two, and the median lies at the edge between the two. The 99th percentile, which a capture does not tell, is the end
of the burst: it depends on the prefill's speed alone, so it is compared too, and tells whether the model's steps are right.

Run: ``python -m benchmarks.simulated.calibration``
"""

from __future__ import annotations

import csv
import statistics
from dataclasses import dataclass
from pathlib import Path

from engines.gpu.hardware import GPUS
from engines.models import Checkpoint, ModelShape, Precision
from engines.simulated.model import CudaGraphs, EngineConfig, Simulation
from engines.simulated.model.virtual_load import VirtualLoad, run_virtual_load

MEASURED = Path(__file__).with_name("measured_h200.csv")
FIGURES = ("output_tokens_per_s", "ttft_p50_ms", "tpot_p50_ms")
TAILS = ("ttft_p99_ms", "tpot_p99_ms")
REQUEST_OVERHEAD_MS = 4.0
SHAPE = ModelShape("llama-8b-32k-vocabulary", 32, 4096, 14336, 32, 8, 128, 32000, 32768)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measured row and the model's answer to the same question."""

    label: str
    measured: dict[str, float]
    modelled: dict[str, float]

    def error_ratio(self, figure: str) -> float:
        """Signed relative error of one figure."""
        return self.modelled[figure] / self.measured[figure] - 1


def compare(row: dict[str, str]) -> Comparison:
    """Run the simulated engine under the conditions of a measured row."""
    batch = int(row["max_batch_size"])
    config = EngineConfig(
        max_batch_size=batch,
        max_num_tokens=int(row["max_num_tokens"]),
        max_seq_len=4096,
        enable_chunked_prefill=True,
        cuda_graphs=CudaGraphs(max_batch_size=min(batch, 512), enable_padding=True),
        kv_precision=Precision(row["kv"]),
        enable_block_reuse=int(row["cached_prompts"]) > 0,
    )
    checkpoint = Checkpoint(SHAPE, Precision(row["weights"]))
    simulation = Simulation(config, checkpoint, GPUS["h200"], seed=1)
    load = VirtualLoad(
        concurrency=int(row["concurrency"]),
        requests=int(row["requests"]),
        input_tokens=int(row["isl"]),
        output_tokens=int(row["osl"]),
        overhead_ms=REQUEST_OVERHEAD_MS,
        cached_prompts=int(row["cached_prompts"]),
    )
    result = run_virtual_load(simulation, load)
    return Comparison(
        label=f"{row['label']}, conc {row['concurrency']}, {row['isl']}/{row['osl']}",
        measured={figure: float(row[figure]) for figure in (*FIGURES, *TAILS) if row[figure]},
        modelled={figure: getattr(result, figure) for figure in (*FIGURES, *TAILS)},
    )


def print_errors(title: str, comparisons: list[Comparison]) -> None:
    """Print the median and the worst error of each figure, and the median of all."""
    everything: list[float] = []
    for figure in FIGURES:
        errors = [abs(comparison.error_ratio(figure)) for comparison in comparisons]
        everything += errors
        print(f"{title}: median error of {figure}: {statistics.median(errors):.1%}, worst {max(errors):.0%}")
    print(f"{title}: median error of all figures: {statistics.median(everything):.1%}")


def main() -> None:
    """Print every row and the median error of each figure."""
    with MEASURED.open(encoding="utf-8", newline="") as file:
        comparisons = [compare(row) for row in csv.DictReader(file)]
    head = "".join(f"{figure:>34}" for figure in (*FIGURES, *TAILS))
    print(f"{'measured -> simulated (error)':<48}{head}")
    for comparison in comparisons:
        cells = ""
        for figure in (*FIGURES, *TAILS):
            if figure not in comparison.measured:
                continue
            measured, modelled = comparison.measured[figure], comparison.modelled[figure]
            cell = f"{measured:.1f} -> {modelled:.1f} ({comparison.error_ratio(figure):+.0%})"
            cells += f"{cell:>34}"
        print(f"{comparison.label:<48}{cells}")
    print_errors("capture", [comparison for comparison in comparisons if comparison.label.startswith("capture")])
    print_errors("all rows", comparisons)
    told = [comparison for comparison in comparisons if TAILS[0] in comparison.measured]
    for figure in TAILS:
        errors = [abs(comparison.error_ratio(figure)) for comparison in told]
        print(f"rows with tails: median error of {figure}: {statistics.median(errors):.1%}, worst {max(errors):.0%}")


if __name__ == "__main__":
    main()
