"""Use trtune's search for a problem of your own: whatever starts and measures, behind three HTTP calls.

The server must answer JSON to

* `GET /problem`: `{"knobs": [...], "objective": {...}, "hardware": {...}, "model": "...", "workload": {...}, "starts": 20}`;
  only knobs, objective and starts are needed. A knob is `{"name": ..., "kind": "int", "default": 8, "low": 1, "high": 64}` or
  has `choices`; the objective is `{"metric": ..., "stat": ..., "direction": ..., "slos": ["ttft:p99:<=:500"]}`.
* `POST /launch` with a configuration: `{"ok": true}` or `{"ok": false, "reason": "...", "accused": ["..."], "infeasible": true}`.
* `POST /measure` with `{"level": 32}`: metrics such as `{"output_token_throughput": {"avg": 812.0}, "ttft": {"p99": 310.0}}`.
* `POST /recommend` with the configuration that was found.

Run: ``python examples/external_search.py http://127.0.0.1:9000``
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

import trtune
from engines.gpu.hardware import find_gpu
from engines.knob import Knob
from engines.models import load_checkpoint
from sessions.slo import Slo
from tuner.search.objective import Objective
from tuner.search.problem import Hardware, WorkloadShape
from tuner.search.search import Proposal, Result


def call(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask the problem's server."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=3600) as answer:
        return dict(json.load(answer))


def read_objective(told: dict[str, Any]) -> Objective:
    """The objective with its limits."""
    slos = tuple(Slo.parse(text) for text in told.get("slos", ()))
    return Objective(told["metric"], told.get("stat", "avg"), told.get("direction", "maximize"), slos)


def build_search(problem: dict[str, Any]) -> trtune.Search:
    """The search of a problem: what is not told is not assumed."""
    knobs = [Knob(**{**knob, "choices": tuple(knob.get("choices", ()))}) for knob in problem["knobs"]]
    hardware, workload = problem.get("hardware"), problem.get("workload")
    return trtune.Search(
        knobs,
        read_objective(problem["objective"]),
        hardware=Hardware(find_gpu(hardware["gpu"]), hardware["gpu_count"]) if hardware else None,
        model=load_checkpoint(problem["model"]) if problem.get("model") else None,
        workload=WorkloadShape(**{**workload, "levels": tuple(workload["levels"])}) if workload else None,
        seed=problem.get("seed", 0),
    )


def run_trial(url: str, objective: Objective, proposal: Proposal) -> Result:
    """Launch a configuration and measure it at its levels, until one breaks a limit: heavier ones would too."""
    started = call(f"{url}/launch", {"params": proposal.params})
    if not started["ok"]:
        accused = tuple(started.get("accused", ()))
        return Result.failed(started.get("reason", ""), accused, infeasible=started.get("infeasible", True))
    measured = []
    for level in proposal.levels or (1.0,):
        measured.append(call(f"{url}/measure", {"level": level}))
        if objective.violation(measured[-1]) > 0:
            break
    return Result.of_levels(objective, measured)


def main() -> None:
    """Search, and say what was found."""
    url = sys.argv[1].rstrip("/")
    problem = call(f"{url}/problem")
    search = build_search(problem)
    for _ in range(problem["starts"]):
        proposal = search.ask()
        if proposal is None:
            break
        result = run_trial(url, search.objective, proposal)
        search.tell(proposal, result)
        print(
            json.dumps(
                {"kind": proposal.kind, "params": proposal.params, "value": result.value, "reason": result.reason}
            )
        )
    best = search.best()
    if best is None:
        sys.exit("nothing met every limit")
    call(f"{url}/recommend", {"params": best.params})
    print(json.dumps({"recommended": best.params, "measured": best.measured, "expected": [best.low, best.high]}))


if __name__ == "__main__":
    main()
