"""Sessions in scripts: frames that agree with the records, exports that agree with the frames, and Optuna's own tools."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import optuna
import orjson
import pandas as pd
import psutil
import pytest

import trtune
from engines.launch.ports import free_port
from sessions.errors import NotASession, SessionError
from sessions.metrics import summarise
from sessions.packing import pack
from sessions.recorder import Recorder
from trtune.cli import run as cli
from trtune.exports.tables import export_tables

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "tests" / "data" / "demo.trtune"


def test_frames_hold_what_the_records_say() -> None:
    with trtune.open_session(DEMO) as session:
        trials, reader = session.trials(), session.reader
        assert list(trials.number) == [trial.number for trial in reader.trials()]
        best = session.best
        assert best is not None
        assert trials.loc[best.number, "score"] == best.score
        assert trials.loc[best.number, "ttft.p99"] == best.result["ttft"]["p99"]
        assert len(session.phases()) == len(reader.phases())
        assert len(session.levels(best.number)) == len(reader.levels(best.number))
        assert list(session.events().text) == [event.text for event in reader.events()]
        assert len(session.log(10)) == 10
        assert session.trial(best.number) == best
        assert session.start_utc.year >= 2026
        with pytest.raises(SessionError, match="no trial 99"):
            session.trial(99)


def test_latencies_of_the_requests_frame_are_those_of_the_result() -> None:
    with trtune.open_session(DEMO) as session:
        level = next(level for level in session.reader.levels() if level.state == "valid")
        assert level.window_ns is not None
        start_ns, end_ns = level.window_ns
        told = summarise(session.reader.requests(level.id), start_ns, end_ns)
        frame = session.requests(level=level.id, arrivals=True)
    counted = frame[(frame.end_s > start_ns / 1e9) & (frame.end_s <= end_ns / 1e9) & (frame.status == "ok")]

    assert counted.tpot_ms.quantile(0.5) == pytest.approx(told["tpot"]["p50"])
    assert counted.e2e_ms.quantile(0.99) == pytest.approx(told["e2e"]["p99"])
    assert counted[counted.ttft_certain].ttft_ms.mean() == pytest.approx(told["ttft"]["avg"])


def test_tokens_are_those_of_the_requests() -> None:
    with trtune.open_session(DEMO) as session:
        requests, tokens = session.requests(trial=1), session.tokens(trial=1)
    per_request = tokens.groupby(["level", "request"]).tokens.sum()
    good = requests[requests.status == "ok"].set_index(["level", "index"]).osl_tokens
    assert np.array_equal(per_request.loc[good.index], good)
    assert tokens.gap_ms.isna().sum() == len(per_request)
    assert (tokens.gap_ms.dropna() >= 0).all()


def test_samples_of_a_span_of_time() -> None:
    with trtune.open_session(DEMO) as session:
        whole, part = session.gpu(), session.gpu(5.0, 6.0)
        source = session.reader.sources("gpu")[0]
        samples = session.reader.samples(source.id, 0, session.reader.end_ns() + 1)
    assert set(part.source) == set(whole.source)
    assert part.t_s.between(5, 6, inclusive="left").all()
    powers = [sample.values[source.columns.index("power_w")] for sample in samples]
    assert np.nanmax(powers) > 100
    assert np.allclose(whole[whole.source == source.name].power_w, powers, equal_nan=True)


def test_a_pack_opens_like_a_session_and_leaves_nothing_behind(tmp_path: Path) -> None:
    pack(DEMO, tmp_path / "demo.trtune.xz")
    with trtune.open_session(tmp_path / "demo.trtune.xz") as session:
        unpacked = session.reader.path
        assert len(session.trials()) == 8
    assert not unpacked.parent.exists()
    with pytest.raises(NotASession):
        trtune.open_session(tmp_path / "missing.trtune")


def test_the_page_about_python_runs() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    program = f"SESSION = {str(DEMO)!r}\n" + "\n".join(blocks)

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)

    assert len(blocks) == 4
    assert done.returncode == 0, done.stderr
    assert "best: trial 4, +261% against the baseline" in done.stdout


def test_every_table_is_exported_alike_in_every_format(tmp_path: Path) -> None:
    for format_ in ("csv", "parquet", "json"):
        assert (
            cli(["export", str(DEMO), "--format", format_, "--table", "all", "--output", str(tmp_path / format_)]) == 0
        )
    for name in ("trials", "requests", "tokens", "gpu", "events"):
        csv = pd.read_csv(tmp_path / "csv" / f"{name}.csv")
        parquet = pd.read_parquet(tmp_path / "parquet" / f"{name}.parquet")
        lines = (tmp_path / "json" / f"{name}.json").read_text().splitlines()
        assert len(csv) == len(parquet) == len(lines) > 0
        assert list(csv.columns) == list(parquet.columns) == list(orjson.loads(lines[0]))
        number = next(column for column in csv.columns if csv[column].dtype == float and csv[column].notna().all())
        assert np.allclose(csv[number], parquet[number])


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--format", "csv", "--table", "all"), "name a new folder"),
        (("--format", "config", "--table", "gpu"), "needs --format csv, parquet, json"),
        (("--format", "csv", "--table", "gpu", "--trial", "1"), "gpu is of the whole session"),
        (("--format", "csv", "--output", DEMO), "exists already"),
    ],
)
def test_exports_that_cannot_be_are_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], told: str
) -> None:
    assert cli(["export", str(DEMO), *map(str, flags)]) == 2

    complaint = capsys.readouterr().err
    assert told in complaint
    assert len(complaint.splitlines()) == 1


def test_a_session_in_which_nothing_has_happened_yet_has_empty_tables(tmp_path: Path) -> None:
    Recorder.create(tmp_path / "run.trtune", {"kind": "tune"}).close()

    with trtune.open_session(tmp_path / "run.trtune") as session:
        assert session.trials().empty
        assert session.levels().query("state == 'valid'").empty
        assert list(session.log().columns) == ["t_s", "stream", "level", "text"]
        assert session.requests(arrivals=True).tpot_ms.empty
        assert session.tokens().nlargest(5, "gap_ms").empty
        assert session.gpu().groupby("source")[["util_pct", "power_w"]].mean().empty


def test_the_winner_of_the_proof_is_the_best(tmp_path: Path) -> None:
    path = Path(shutil.copy(DEMO, tmp_path / "run.trtune"))
    with trtune.open_session(path) as session:
        scored = session.trials().query("feasible == True and kind == 'search'").sort_values("score")
        other = int(scored.number.iloc[0])
        assert session.best != session.trial(other)
    recorder = Recorder.resume(path)
    recorder.set_meta({"verdict": {"winner": other}})
    recorder.close()

    with trtune.open_session(path) as session:
        assert session.best == session.summary.best == session.trial(other)


def test_one_trial_is_exported_alone(tmp_path: Path) -> None:
    export_tables(DEMO, "trials", "csv", trial=2, output=tmp_path / "trials.csv")

    assert list(pd.read_csv(tmp_path / "trials.csv").number) == [2]
    with pytest.raises(SessionError, match="there is no trial 99"):
        export_tables(DEMO, "levels", "csv", trial=99, output=None)


def test_text_that_a_spreadsheet_would_run_is_exported_as_text(tmp_path: Path) -> None:
    recorder = Recorder.create(tmp_path / "run.trtune", {})
    recorder.log("server", "info", '=HYPERLINK("http://x","y")')
    recorder.close()

    export_tables(tmp_path / "run.trtune", "log", "csv", trial=None, output=tmp_path / "log.csv")

    assert pd.read_csv(tmp_path / "log.csv").text[0] == """'=HYPERLINK("http://x","y")"""


def test_optuna_loads_the_study_of_a_session(tmp_path: Path) -> None:
    path = shutil.copy(DEMO, tmp_path / "run.trtune")
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{path}")

    with trtune.open_session(path) as session:
        scores = {trial.score for trial in session.reader.trials()}
    assert study.best_value in scores


def test_optuna_dashboard_shows_the_study_of_a_session(tmp_path: Path) -> None:
    path = shutil.copy(DEMO, tmp_path / "run.trtune")
    unused_port = free_port()
    command = [sys.executable, "-m", "optuna_dashboard._cli", f"sqlite:///{path}", "--port", str(unused_port)]
    dashboard = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--server", "wsgiref"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        studies = _ask(f"http://127.0.0.1:{unused_port}/api/studies", dashboard)
        (study,) = studies["study_summaries"]
        told = _ask(f"http://127.0.0.1:{unused_port}/api/studies/{study['study_id']}?after=0", dashboard)
    finally:
        for process in psutil.Process(dashboard.pid).children(recursive=True):
            process.kill()
        dashboard.kill()
        dashboard.wait()

    assert len(told["trials"]) >= 8


def _ask(url: str, server: subprocess.Popen[bytes]) -> dict[str, list[dict[str, object]]]:
    """The JSON answer of a server that may still be starting."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                told: dict[str, list[dict[str, object]]] = orjson.loads(answer.read())
                return told
        except OSError:
            assert server.poll() is None, "the dashboard has ended"
            time.sleep(0.1)
    raise AssertionError(f"{url} never answered")
