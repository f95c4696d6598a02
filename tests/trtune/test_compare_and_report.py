"""`trtune compare` and `trtune report`, as a user runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.sessions.made import MadeTrial, Speed, write_session
from trtune.cli import run


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_session(
        tmp_path_factory.mktemp("s") / "made.trtune",
        [
            MadeTrial({"max_batch_size": 8}, {8: Speed()}, "baseline"),
            MadeTrial({"max_batch_size": 64}, {8: Speed(ttft_ms=120, gap_ms=7)}),
        ],
    )


def test_a_comparison_is_shown_in_lines(session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", f"{session}#0", f"{session}#1", "--ascii"]) == 0

    out = capsys.readouterr().out
    assert out.isascii() or "±" in out
    assert "max_batch_size" in out
    assert "at concurrency 8:" in out
    assert "distribution of ttft, ms:" in out


def test_a_comparison_is_one_json_object(session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", f"{session}#0", str(session), "--json", "--fail-if", "ttft_p50 > +50%"]) == 0

    told = orjson.loads(capsys.readouterr().out)
    assert [side["trial"] for side in told["sides"]] == [0, 1]
    assert told["params"] == [{"name": "max_batch_size", "values": [8, 64]}]
    assert told["findings"][0]["holds"] is False
    assert told["loads"][0]["metrics"][0]["changes"][1]["significant"] is True


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--fail-if", "ttft_p50 > +5%"), 5, "HOLDS at concurrency 8"),
        (("--fail-if", "ttft_p50 > +5%", "--significant"), 5, "95 % interval"),
        (("--fail-if", "tpot_p50 > +5%"), 0, "does not hold"),
        (("--fail-if", "nonsense"), 2, "cannot be read"),
        (("--json", "-o", "page.html"), 2, "not both"),
        (("-o", "page.pdf"), 2, "page.pdf: ends in none of .html, .md"),
        (("--fail-if", "ttft_p50 > +5% at 7"), 1, "was not measured"),
    ],
)
def test_conditions_give_the_exit_status(
    session: Path, arguments: tuple[str, ...], status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", f"{session}#0", f"{session}#1", *arguments]) == status
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("compare", "{}"), 2, "two sessions or trials at least"),
        (("compare", "{}#x", "{}"), 2, "comes the number of a trial"),
        (("compare", "{}#9", "{}"), 1, "there is no trial 9"),
        (("report", "nowhere"), 1, "no such session"),
    ],
)
def test_mistakes_are_one_line(
    session: Path, words: tuple[str, ...], status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([word.format(session) for word in words]) == status
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(("name", "begin"), [("r.html", "<!DOCTYPE html>"), ("r.md", "## ")])
def test_a_report_is_written_once(session: Path, tmp_path: Path, name: str, begin: str) -> None:
    output = tmp_path / name

    assert run(["report", str(session), "-o", str(output)]) == 0
    assert output.read_text().startswith(begin)
    assert run(["report", str(session), "-o", str(output)]) == 2
    assert run(["report", str(session), "-o", str(output), "--force"]) == 0


def test_a_comparison_is_written_as_a_page(session: Path, tmp_path: Path) -> None:
    assert run(["compare", f"{session}#0", f"{session}#1", "-o", str(tmp_path / "c.html")]) == 0

    assert "What differs" in (tmp_path / "c.html").read_text()


@pytest.mark.parametrize(
    ("words", "begin"),
    [
        (("report", "{0}", "--format", "md", "-o", "-"), "## TensorRT-LLM"),
        (("compare", "{0}#0", "{0}#1", "--format", "md"), "## made#1 against made#0"),
    ],
)
def test_markdown_goes_to_standard_output_for_ci(session: Path, words: tuple[str, ...], begin: str) -> None:
    command = [sys.executable, "-m", "trtune", *(word.format(session) for word in words)]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.startswith(begin)


def test_what_an_older_session_does_not_tell_is_said(tmp_path: Path) -> None:
    demo = Path(__file__).parents[1] / "data" / "demo.trtune"

    assert run(["report", str(demo), "-o", str(tmp_path / "r.html")]) == 0

    page = (tmp_path / "r.html").read_text()
    missing = page[page.index("Not in this session") :]
    assert "a proof: baseline and winner were not run again" in missing
    assert "importances of the knobs" in missing
