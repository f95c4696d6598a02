from __future__ import annotations

import math
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sessions.columns import COLUMNS
from sessions.reader import SessionReader
from tests.tui.sample_session import hand_recorder, write_sample_session
from tests.tui.screen_helpers import running_app, shown, snapshot_of, text_of, until
from tui.glyphs import ASCII, BRAILLE
from tui.terminal import TerminalSettings
from tui.widgets.gpu_wall import gpu_rows, wanted_height
from tui.widgets.plot_grid import grid_rows, grid_shape, live_plots
from tui.widgets.server_panel import kv_row, latency_row, requests_row, work_row
from tui.widgets.status import header_row, limit_row, strip_row

if TYPE_CHECKING:
    from pathlib import Path

    from tui.snapshot import Snapshot


def test_time_left_counts_no_time_without_a_worker_and_is_not_told_of_a_proof(busy_snapshot: Snapshot) -> None:
    hour_ns = 3600 * 1_000_000_000
    first = replace(busy_snapshot.trials[0], start_ns=0, end_ns=hour_ns // 6)
    running = replace(busy_snapshot.trials[-1], start_ns=10 * hour_ns, end_ns=None, state="running", kind="search")
    resumed = replace(
        busy_snapshot,
        facts=replace(busy_snapshot.facts, budget_s=3600.0),
        trials=(first, running),
        all_trials=(first, running),
        running=running,
        at_ns=10 * hour_ns + hour_ns // 6,
    )
    proof = replace(resumed, running=replace(running, kind="proof"))
    paused = replace(resumed, facts=replace(resumed.facts, spent_s=1800.0))

    told, told_paused, told_proof = (
        text_of([strip_row(snapshot, 200, BRAILLE)]) for snapshot in (resumed, paused, proof)
    )

    assert "40 min 00 s left" in told
    assert "20 min 00 s left" in told_paused
    assert "left" not in told_proof
    assert f"/{resumed.facts.budget_trials}" not in told_proof


def test_gpu_rows_tell_what_limits_each(busy_snapshot: Snapshot) -> None:
    rows = text_of(gpu_rows(busy_snapshot, 120, 5, BRAILLE)).splitlines()

    assert len(rows) == 5
    assert "tensor %" in rows[0]
    assert "700/700" in rows[1]
    assert "1485/1980" in rows[1]
    assert "power cap" in rows[1]


def test_narrow_gpu_rows_keep_what_matters_most(busy_snapshot: Snapshot) -> None:
    rows = text_of(gpu_rows(busy_snapshot, 60, 5, BRAILLE)).splitlines()

    assert "util %" in rows[0]
    assert "DRAM %" in rows[0]
    assert "SM MHz" not in rows[0]


def test_more_gpus_than_rows_are_announced(busy_snapshot: Snapshot) -> None:
    many = replace(busy_snapshot, gpus=busy_snapshot.gpus * 4)

    rows = text_of(gpu_rows(many, 80, 8, BRAILLE)).splitlines()

    assert len(rows) == 8
    assert "10 more" in rows[-1]


def test_silent_gpu_shows_no_old_number(busy_snapshot: Snapshot) -> None:
    silent = replace(busy_snapshot.gpus[0], at_ns=busy_snapshot.gpus[0].at_ns + 60 * 1_000_000_000)

    row = text_of(gpu_rows(replace(busy_snapshot, gpus=(silent,)), 120, 3, BRAILLE)).splitlines()[1]

    assert "silent 60 s" in row
    assert "1485" not in row


def test_session_without_gpus_says_why(tmp_path: Path) -> None:
    path = write_sample_session(tmp_path / "cpu.trtune", gpus=0, meta={"gpu_note": "no GPU here: no NVIDIA driver"})

    with SessionReader(path) as reader:
        snapshot = snapshot_of(reader)

    assert text_of(gpu_rows(snapshot, 80, 5, BRAILLE)) == "no GPU here: no NVIDIA driver"
    assert wanted_height(0, 80, 24) == 1


def test_server_panel_tells_kv_cache_requests_and_latency(busy_snapshot: Snapshot) -> None:
    assert "of 412k tokens" in text_of([kv_row(busy_snapshot, 120, BRAILLE)])
    assert "64 of 512 running" in text_of([requests_row(busy_snapshot, 120, BRAILLE)])
    assert "TTFT" in text_of([latency_row(busy_snapshot, 120, BRAILLE)])


def test_share_of_requests_that_meet_the_slos_is_shown(busy_snapshot: Snapshot) -> None:
    assert "100 % meet the SLOs" in text_of([work_row(busy_snapshot, 160)])


def test_latency_beyond_its_limit_is_marked(busy_snapshot: Snapshot) -> None:
    objective = busy_snapshot.facts.objective
    strict = replace(objective, slos=(replace(objective.slos[0], value=1.0),))

    inks = {ink for _, ink in latency_row(busy_snapshot, 120, BRAILLE)}
    strict_row = latency_row(replace(busy_snapshot, facts=replace(busy_snapshot.facts, objective=strict)), 120, BRAILLE)

    assert "bad" not in inks
    assert "bad" in {ink for _, ink in strict_row}


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_status_rows_have_exactly_the_width(busy_snapshot: Snapshot, width: int) -> None:
    assert len(text_of([header_row(busy_snapshot, width, BRAILLE)])) == width
    assert len(text_of([strip_row(busy_snapshot, width, BRAILLE)])) == width
    assert len(text_of([limit_row(busy_snapshot, width)])) <= width


def test_header_says_that_the_server_is_simulated(busy_snapshot: Snapshot) -> None:
    assert "SIMULATED" in text_of([header_row(busy_snapshot, 60, BRAILLE)])


def test_strip_tells_trial_phase_and_level(busy_snapshot: Snapshot) -> None:
    text = text_of([strip_row(busy_snapshot, 120, BRAILLE)])

    assert "trial 6/24" in text
    assert "measure concurrency 64" in text
    assert "trial 3 6230 tokens/s +51 %" in text


def test_limit_gives_way_to_a_session_that_stands_still(busy_snapshot: Snapshot) -> None:
    state = replace(busy_snapshot.state, word="LAG 9.0 s", text="silent", tone="warn", fresh=False)
    lagging = replace(busy_snapshot, state=state, clock=replace(busy_snapshot.clock, pinned=True))

    assert "LAG 9.0 s" in text_of([limit_row(lagging, 80)])


def test_the_heading_of_a_plot_tells_no_old_number_of_a_silent_source(busy_snapshot: Snapshot) -> None:
    gpu = busy_snapshot.gpus[0]
    silent = replace(gpu, at_ns=gpu.at_ns + 60 * 1_000_000_000)

    told = [
        next(plot for plot in live_plots(replace(busy_snapshot, gpus=(each,))) if plot.title == "GPU power W")
        .series[0]
        .told()
        for each in (gpu, silent)
    ]

    assert told[0] == 700
    assert math.isnan(told[1])


def test_plots_carry_the_limits_of_their_own_metric(busy_snapshot: Snapshot) -> None:
    plots = {plot.title: plot for plot in live_plots(busy_snapshot)}

    assert plots["TTFT ms"].limits == (500.0,)
    assert plots["ITL ms"].limits == ()


def test_ascii_screen_is_ascii(busy_snapshot: Snapshot) -> None:
    assert text_of(grid_rows(live_plots(busy_snapshot), 100, 20, ASCII)).isascii()


@pytest.mark.parametrize(
    ("width", "height", "shape"),
    [(80, 10, (2, 2)), (80, 8, (2, 1)), (120, 20, (2, 3)), (200, 40, (3, 2)), (50, 4, (1, 1))],
)
def test_plots_share_the_space(width: int, height: int, shape: tuple[int, int]) -> None:
    assert grid_shape(6, width, height) == shape


async def test_live_screen_shows_all_parts(sample: Path) -> None:
    async with running_app(sample, size=(80, 24)) as (app, _):
        text = shown(app)

    for part in ("SIMULATED", "REPLAY", "util %", "KV cache", "requests", "latency", "TTFT ms", "★6", "q leave"):
        assert part in text


async def test_old_numbers_are_dimmed_when_the_worker_is_gone(tmp_path: Path) -> None:
    path = write_sample_session(tmp_path / "gone.trtune", over=False)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE worker SET pid = 4194301, heartbeat_utc_ns = 1")
    connection.close()

    async with running_app(path, mode="live") as (app, _):
        text = shown(app)
        snapshot = app.snapshot

    assert snapshot is not None
    assert not snapshot.fresh
    assert "STOPPED" in text
    assert "trtune tune --resume gone.trtune" in text
    inks = {ink for row in gpu_rows(snapshot, 120, 5, BRAILLE)[1:] for _, ink in row}
    assert inks == {"dim"}


async def test_ascii_terminal_gets_no_other_character(sample: Path) -> None:
    terminal = TerminalSettings(glyphs="ascii", fps=50.0, animation=False)

    async with running_app(sample, size=(100, 30), terminal=terminal) as (app, _):
        text = shown(app)

    assert text.isascii()


async def test_screen_that_is_too_small_says_what_to_do(sample: Path) -> None:
    async with running_app(sample, size=(40, 10)) as (app, pilot):
        text = shown(app)
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "util %" in shown(app))

    assert text.strip() == "make the terminal at least 60x16"


async def test_resize_storm_ends_in_a_whole_screen(sample: Path) -> None:
    async with running_app(sample) as (app, pilot):
        for width, height in [(200, 60), (40, 10), (80, 24), (61, 17), (1, 1), (300, 100), (60, 16), (120, 40)] * 2:
            await pilot.resize_terminal(width, height)
        await until(pilot, lambda: "GPU power W" in shown(app))

        assert "make the terminal" not in shown(app)


async def test_watching_shows_the_server_and_offers_no_trials(tmp_path: Path) -> None:
    recorder, clock = hand_recorder(tmp_path / "watch.trtune", {"kind": "watch", "name": "watched"})
    engine = recorder.add_source("engine", "engine", {})
    recorder.add_source("load", "load", {})
    for second in range(30):
        values = {"running": 12.0, "waiting": 1.0, "kv_used_ratio": 0.4, "output_tokens_total": 900.0 * second}
        row = [values.get(column.name, math.nan) for column in COLUMNS["engine"]]
        recorder.add_sample(engine, second * 1_000_000_000, row)
    clock.set_s(29.0)
    recorder.event("warning", "no GPU here: there is no NVIDIA driver library")
    recorder.set_worker("running", "watching http://127.0.0.1:8000")
    recorder.flush()

    async with running_app(recorder.path, mode="live", size=(200, 50)) as (app, _):
        text = shown(app)

    recorder.close()
    assert " watching http://127.0.0.1:8000" in text
    assert "no GPU here" in text
    assert "12 running" in text
    assert "output tokens/s out 900" in text
    assert "TTFT" not in text
    assert "k skip" not in text
    assert "d detach" in text
