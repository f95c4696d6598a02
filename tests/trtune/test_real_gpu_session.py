"""A session recorded on a real GPU with a real vLLM: it opens, holds what the hardware said, and says no more than was proven."""

from __future__ import annotations

from pathlib import Path

import trtune
from tests.trtune.conftest import Program

PACK = Path(__file__).parents[1] / "data" / "gpu" / "vllm-8b-h100.trtune.xz"


def test_trials_and_verdict_are_those_of_the_run() -> None:
    with trtune.open_session(PACK) as session:
        trials = session.trials()
        verdict = session.meta["verdict"]

    assert list(trials["state"]) == ["complete"] * 6
    assert list(trials["kind"]) == ["baseline", "search", "proof", "proof", "proof", "proof"]
    assert verdict["proven"] is False
    assert verdict["low"] < 0 < verdict["gain"]


def test_the_gpu_told_power_clocks_throttling_and_activity() -> None:
    with trtune.open_session(PACK) as session:
        gpu = session.gpu()

    assert gpu["power_w"].max() > 600
    assert gpu["power_w"].max() <= gpu["power_limit_w"].max() * 1.02
    assert (gpu["throttle_mask"].dropna() > 1).any(), "the power cap was met"
    for column in ("sm_clock_mhz", "sm_active_pct", "tensor_active_pct", "dram_active_pct"):
        assert gpu[column].max() > 10, column


def test_the_pack_names_no_host() -> None:
    with trtune.open_session(PACK) as session:
        told = str(session.meta)

    assert "'vm'" not in told


def test_a_pack_is_sound_and_its_report_does_not_claim_a_proof(program: Program, tmp_path: Path) -> None:
    page = tmp_path / "report.html"

    verified = program.run("sessions", "verify", str(PACK))
    reported = program.run("report", str(PACK), "--output", str(page))

    assert (verified.returncode, reported.returncode) == (0, 0), verified.stderr + reported.stderr
    assert "not proven" in page.read_text()


TWO_GPUS = PACK.with_name("vllm-8b-two-h100.trtune.xz")


def test_two_gpus_ran_trials_side_by_side_and_each_was_sampled() -> None:
    with trtune.open_session(TWO_GPUS) as session:
        trials, gpu, found = session.trials(), session.gpu(), session.meta["neighbours"]

    together = trials[trials["number"].isin([7, 8])]
    assert together["start_s"].max() < together["end_s"].min(), "they ran at the same time"
    assert list(together["state"]) == ["complete"] * 2
    assert found["together"] == list(together["score"])
    assert gpu.groupby("source")["power_w"].max().min() > 600
