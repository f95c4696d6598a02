from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sessions.reader import SessionReader
from sessions.records import PROOF
from sessions.summary import summarise_session
from tests.tui.sample_session import OBJECTIVE, hand_recorder
from tests.tui.screen_helpers import snapshot_of, text_of
from tui.glyphs import ASCII, BRAILLE
from tui.snapshot import baseline_trial, best_trial, improvements
from tui.trial_rows import TrialRow, baseline_params, detail_lines, trial_row
from tui.widgets.best_panel import best_rows
from tui.widgets.history_plot import history_rows
from tui.widgets.lines import wrap
from tui.widgets.trial_table import TrialTable

if TYPE_CHECKING:
    from pathlib import Path

    from tui.snapshot import Snapshot


def trial_rows(snapshot: Snapshot) -> list[TrialRow]:
    base = baseline_params(snapshot)
    return [trial_row(snapshot, trial, base) for trial in snapshot.trials]


def test_rows_tell_what_differs_and_what_it_brought(end_snapshot: Snapshot) -> None:
    rows = trial_rows(end_snapshot)

    assert rows[0].changes == "the baseline"
    assert rows[1].changes == "max_batch_size=256"
    assert (rows[1].score, rows[1].gain, rows[1].ttft_p99) == ("4890", "+19 %", "402")
    assert (rows[2].state, rows[2].score, rows[2].gain) == ("failed", "–", "–")
    assert [row.number for row in rows if row.best] == [6]


def test_running_trial_shows_its_phase_as_state(busy_snapshot: Snapshot) -> None:
    assert trial_rows(busy_snapshot)[-1].state == "measure"


def test_setting_that_the_baseline_leaves_open_is_compared_with_the_default(end_snapshot: Snapshot) -> None:
    baseline = replace(end_snapshot.trials[0], params={})
    snapshot = replace(end_snapshot, trials=(baseline, *end_snapshot.trials[1:]))

    assert trial_rows(snapshot)[1].changes == "max_batch_size=256"


def test_best_is_feasible_and_complete(end_snapshot: Snapshot) -> None:
    spoilt = tuple(replace(trial, feasible=False) if trial.number == 6 else trial for trial in end_snapshot.trials)

    best = best_trial(spoilt, end_snapshot.facts.objective)

    assert best is not None
    assert best.number == 3


def test_best_on_the_screen_is_the_trial_that_the_command_line_names(tmp_path: Path) -> None:
    recorder, clock = hand_recorder(tmp_path / "proven.trtune", {"objective": OBJECTIVE})
    for kind, score in (("baseline", 100.0), ("search", 150.0), ("search", 140.0), (PROOF, 160.0)):
        number = recorder.start_trial(kind, {})
        clock.set_s(10.0 * (number + 1))
        recorder.end_trial(number, "complete", score=score, feasible=True)
    recorder.set_meta({"verdict": {"winner": 2, "text": "proven"}})
    recorder.event("verdict", "proven", trial=2)
    clock.set_s(50.0)
    recorder.close()

    with SessionReader(recorder.path) as reader:
        at_the_end, before = snapshot_of(reader), snapshot_of(reader, at_s=35.0)
        named = summarise_session(reader.trials(), reader.meta()).best
    assert named is not None
    assert named.number == 2
    assert at_the_end.best == named
    assert before.best is not None
    assert before.best.number == 1, "the proof was not over yet"
    assert [row.number for row in trial_rows(at_the_end) if row.best] == [2]


def test_minimised_objective_turns_best_and_gain_round(end_snapshot: Snapshot) -> None:
    objective = replace(end_snapshot.facts.objective, maximize=False)

    best = best_trial(end_snapshot.trials, objective)

    assert best is not None
    assert best.number == 0
    assert objective.gain_ratio(2060.0, 4120.0) == pytest.approx(0.5)
    assert [trial.number for trial in improvements(end_snapshot.trials, objective)] == [0]


def test_failed_baseline_gives_no_gain(end_snapshot: Snapshot) -> None:
    trials = (replace(end_snapshot.trials[0], score=None), *end_snapshot.trials[1:])

    assert baseline_trial(trials) is None
    assert {row.gain for row in trial_rows(replace(end_snapshot, trials=trials, baseline=None))} <= {"", "–"}


def test_comparison_names_metrics_and_settings(end_snapshot: Snapshot) -> None:
    text = text_of(best_rows(end_snapshot, 60, 20, BRAILLE))

    assert "+80 %" in text
    assert "TTFT p99 ms" in text
    assert "max_num_tokens 16384  was 8192" in text
    assert "simulated" in text


def test_comparison_says_why_nothing_is_best(end_snapshot: Snapshot) -> None:
    text = text_of(best_rows(replace(end_snapshot, best=None), 80, 10, BRAILLE))

    assert "nothing feasible in 8 trials" in text


def test_verdict_is_shown_at_the_end(end_snapshot: Snapshot) -> None:
    facts = replace(end_snapshot.facts, verdict="proven: +78 % to +82 %")

    assert "proven: +78 %" in text_of(best_rows(replace(end_snapshot, facts=facts), 60, 20, BRAILLE))


def test_detail_of_a_failure_names_line_and_culprit(end_snapshot: Snapshot) -> None:
    text = text_of(detail_lines(replace(end_snapshot, selected=end_snapshot.trials[2], selected_levels=())))

    assert "out of memory: the KV cache" in text
    assert "CUDA out of memory" in text
    assert "accuses  kv_cache_config.free_gpu_memory_fraction, max_num_tokens" in text


def test_detail_tells_levels_settings_and_command(end_snapshot: Snapshot) -> None:
    text = text_of(detail_lines(end_snapshot))

    assert "concurrency          tokens/s  TTFT p99" in text
    assert "        32  valid        2000       235" in text
    assert "max_batch_size 768  baseline 2048" in text
    assert "kv_capacity_tokens 412000  read back" in text
    assert "trtllm-serve model --config trial7.yaml" in text


def test_setting_that_the_server_changed_is_told(end_snapshot: Snapshot) -> None:
    trial = replace(end_snapshot.trials[1], effective={"max_batch_size": 64})

    assert "the server took 64" in text_of(detail_lines(replace(end_snapshot, selected=trial)))


@pytest.mark.parametrize(("width", "height"), [(20, 4), (40, 7), (120, 30), (6, 1)])
def test_history_fills_its_space_and_no_more(end_snapshot: Snapshot, width: int, height: int) -> None:
    rows = history_rows(end_snapshot, width, height, ASCII)

    assert len(rows) <= max(1, height)
    assert all(len(text_of([row])) <= width for row in rows)


def test_history_stars_every_improvement_and_shows_failures(end_snapshot: Snapshot) -> None:
    text = "\n".join(text_of(history_rows(end_snapshot, 80, 12, BRAILLE)).splitlines()[1:])

    assert text.count("★") == 4
    assert text.count("x") == 1
    assert text.count("!") == 1


def test_wrapped_line_keeps_every_word() -> None:
    words = " ".join(f"word{number}" for number in range(40))

    rows = wrap((("label  ", "dim"), (words, "")), 30)

    assert all(len(text_of([row])) <= 30 for row in rows)
    assert text_of(rows).replace("\n", " ").split()[1:] == words.split()


def test_a_latency_that_is_searched_for_is_named_and_not_only_its_unit(busy_snapshot: Snapshot) -> None:
    objective = replace(busy_snapshot.facts.objective, metric="ttft", stat="p99", unit="ms", maximize=False)
    snapshot = replace(busy_snapshot, facts=replace(busy_snapshot.facts, objective=objective))

    assert "TTFT p99 ms" in text_of(best_rows(snapshot, 60, 12, BRAILLE))
    assert text_of(history_rows(snapshot, 60, 8, BRAILLE)).startswith("history TTFT p99 ms")


@pytest.mark.parametrize(("width", "told"), [(70, "proof: "), (120, " proof ")])
def test_a_run_of_the_proof_is_told_from_a_trial_at_every_width(sample: Path, width: int, told: str) -> None:
    with SessionReader(sample) as reader:
        snapshot = snapshot_of(reader)
    proof = replace(snapshot.trials[-1], kind=PROOF)

    rows = TrialTable().rows(replace(snapshot, trials=(*snapshot.trials[:-1], proof)), width, 12)

    assert told in text_of(rows[-1:])
