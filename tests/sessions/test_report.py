"""The report: what it says of a session, and that nothing in a session can be more than text in it."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessions.columns import GPU_COLUMNS
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from sessions.records import FailureRecord
from sessions.report.charts import Chart, Series, draw
from sessions.report.facts import MOST_EVENTS, Facts, gather
from sessions.report.markdown import MOST_TRIALS, report_markdown
from sessions.report.markup import html, tag, xml
from sessions.report.outcome import outcome
from sessions.report.page import report_page
from sessions.report.picture import report_picture, report_svg
from sessions.report.scales import linear_scale, log_scale, short
from sessions.text import clean_line
from tests.sessions.made import META, MadeTrial, Speed, write_session

DEMO = Path(__file__).parents[1] / "data" / "demo.trtune"

TRIALS = [
    MadeTrial({"max_batch_size": 8}, {8: Speed(), 16: Speed(ttft_ms=300)}, "baseline"),
    MadeTrial({"max_batch_size": 64}, {8: Speed(gap_ms=7), 16: Speed(ttft_ms=240, gap_ms=8)}),
    MadeTrial({"max_batch_size": 32}, {8: Speed(gap_ms=8), 16: Speed(ttft_ms=240, gap_ms=9)}),
]

KNOWN: dict[str, Any] = {
    "importance": {"method": "ped-anova", "trials": 12, "shares": {"max_batch_size": 0.8, "max_num_tokens": 0.2}},
    "effects": {"max_batch_size": {"values": [8, 64], "score": [1.0, 2.0], "low": [0.9, 1.8], "high": [1.1, 2.2], "n": [3, 4]}},
    "pareto": {
        "objectives": [
            {"metric": "output_token_throughput", "stat": "avg", "direction": "maximize"},
            {"metric": "output_token_throughput_per_user", "stat": "avg", "direction": "maximize"},
        ],
        "front": [{"trial": 1, "level": 3, "values": [900.0, 60.0]}, {"trial": 2, "level": 5, "values": [500.0, 90.0]}],
        "hypervolume": 12.5,
    },
    "diagnosis": {"1": {"kind": "queue", "text": "limited by the queue", "evidence": ["9 wait"], "knob": None}},
    "quality": {"1": {"passed": True, "agreement": 0.98, "divergence": 0.01, "text": "answers agree"}},
    "verdict": {
        "proven": True, "gain": 0.42, "low": 0.4, "high": 0.44, "winner": 2, "text": "proven better", "method": "paired t-test",
    },
}  # fmt: skip


def facts_of(path: Path, **more: Any) -> Facts:
    with SessionReader(path) as reader:
        return gather(reader, **more)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_session(tmp_path_factory.mktemp("report") / "made.trtune", TRIALS)


class Reader(HTMLParser):
    """Collects what a browser would see: tags in balance, texts, references."""

    VOID = frozenset({"meta", "input", "wbr", "link", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return reader


def test_the_verdict_comes_first_and_names_the_proofs_winner(made: Path) -> None:
    facts = facts_of(made, computed=KNOWN)

    page = read(report_page(facts))

    assert facts.summary.best is not None
    assert facts.summary.best.number == 2
    text = page.text
    assert text.index("+42.0% output_token_throughput") < text.index("Winning configuration (trial 2)")
    assert "95 % interval of the gain: +40.0% to +44.0%" in text


def test_every_section_is_there(made: Path) -> None:
    known = {**KNOWN, "diagnosis": {"2": KNOWN["diagnosis"]["1"]}}

    page = read(report_page(facts_of(made, computed=known, exports={"Command": "serve --now"})))

    for heading in (
        "Winning configuration (trial 2)", "Winner against baseline", "Latency against load", "Pareto front and history",
        "Importance of the knobs", "Effect of each knob", "What limits it", "Quality gate", "Levels",
        "Conditions and versions", "All trials", "Not in this session",
    ):  # fmt: skip
        assert heading in page.text, heading
    assert "serve --now" in page.text
    assert "limited by the queue" in page.text
    assert "answers agree" in page.text


def test_a_measurement_without_proof_is_not_called_proven(made: Path) -> None:
    told = outcome(facts_of(made))

    assert told.tone == "open"
    assert told.lines[0].startswith("Not proven")


def test_a_simulated_session_says_so_everywhere() -> None:
    facts = facts_of(DEMO)

    assert read(report_page(facts)).text.count("SIMULATED") >= 1
    assert "SIMULATED" in report_markdown(facts)
    assert "SIMULATED" in report_svg(facts)


def test_gpu_and_engine_are_drawn_over_time() -> None:
    page = read(report_page(facts_of(DEMO)))

    labels = [attributes.get("aria-label") or "" for tag, attributes in page.tags if tag == "svg"]
    assert any(label.startswith("Power. drawn up to") for label in labels)
    assert any(label.startswith("KV cache in use.") for label in labels)


def test_the_page_needs_nothing_else_and_is_small() -> None:
    page = report_page(facts_of(DEMO))

    assert len(page.encode()) < 2_000_000
    assert not re.findall(r"""(?:src|href)=["']?[^"' >]+""", page)
    assert "default-src 'none'" in page
    assert "url(" not in page


HOSTILE = "<script>alert(1)</script>\"'>&<img src=x onerror=alert(1)></style></textarea>\u202e\x1b[31m"


def hostile_session(path: Path, text: str) -> Path:
    meta = {
        **META,
        "name": text,
        "engine": {"title": text, "model": text},
        "host": {"name": text, "packages": {text: text}},
        "workload": {"label": text},
        "gpu_note": text,
        "knobs": [{"name": text, "help": text}, text, None],
        "importance": {"method": text, "shares": {text: 0.5, "bad": "x"}},
        "effects": {text: {"values": [text, 2], "score": [1, 2]}, "bad": {"values": 3, "score": None}},
        "diagnosis": {"0": {"text": text, "evidence": [text]}},
        "quality": {text: {"text": text, "passed": text}, "1": {"passed": [text]}, "2": {"passed": {text: 1}}},
        "plan": {text: text},
    }
    recorder = Recorder.create(path, meta)
    number = recorder.start_trial("baseline", {text: text})
    level = recorder.start_level(number, "concurrency", 8)
    recorder.end_level(level, "valid", window_ns=(1, 2), result={"ttft": {"p99": 5.0}}, notes=[text])
    recorder.end_trial(number, "complete", score=1.0, feasible=True, failure=FailureRecord(text, text, text, (text,)))
    recorder.event("mark", text, trial=number)
    recorder.close()
    return path


def test_a_strangers_texts_are_texts(tmp_path: Path) -> None:
    facts = facts_of(hostile_session(tmp_path / "x.trtune", HOSTILE), exports={HOSTILE: HOSTILE})

    page = read(report_page(facts))

    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not [tag for tag, _ in page.tags if tag in ("img", "textarea", "link", "iframe")]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "alert(1)" in page.text
    assert "\u202e" not in page.text
    assert "<script>" not in re.sub(r"(?s)(```+).*?\1", "", report_markdown(facts))


@given(st.text(max_size=60))
def test_any_text_comes_through_markup_as_itself(text: str) -> None:
    element = tag("p", text, title=text)

    found = read(html(element))

    assert found.tags == [("p", {"title": clean_line(text)})]
    assert found.text == "\n".join(clean_line(line) for line in text.split("\n"))
    assert ElementTree.fromstring(xml(element)).get("title") == clean_line(text)


@pytest.mark.parametrize(
    "value", [None, 5, "text", [], [1], {"a": 1}, {"shares": 3}, {"front": [1], "objectives": [1, 2]}]
)
def test_values_of_another_kind_are_left_out(made: Path, value: object) -> None:
    keys = ("importance", "effects", "pareto", "diagnosis", "quality", "verdict", "knobs", "workload", "repeats")
    facts = facts_of(made, computed=dict.fromkeys(keys, value))

    assert "All trials" in report_page(facts)
    assert "### Trials" in report_markdown(facts)


@pytest.mark.parametrize("kind", ["tune", "bench", "watch"])
def test_a_session_in_which_nothing_was_measured_has_a_report(tmp_path: Path, kind: str) -> None:
    Recorder.create(tmp_path / "empty.trtune", {"kind": kind}).close()
    facts = facts_of(tmp_path / "empty.trtune")

    assert "easured" in read(report_page(facts)).text
    assert "easured" in report_markdown(facts)
    assert "easured" in report_svg(facts)


def test_markdown_links_and_mentions_nobody(tmp_path: Path) -> None:
    facts = facts_of(hostile_session(tmp_path / "x.trtune", "@user see https://example.com [x](y) `code` |"))

    text = report_markdown(facts)

    assert "@user" not in text
    assert "https://" not in text
    assert "[x](" not in text


def test_the_picture_is_a_png_of_two_pixels_for_one(made: Path) -> None:
    pytest.importorskip("resvg_py")

    picture = report_picture(facts_of(made, computed=KNOWN))

    assert picture.startswith(b"\x89PNG")
    assert int.from_bytes(picture[16:20], "big") == 2400


def test_a_timeline_begins_with_the_session_however_long_it_was(tmp_path: Path) -> None:
    recorder = Recorder.create(tmp_path / "long.trtune", {})
    source = recorder.add_source("gpu", "gpu0", {"name": "H200"})
    place = [column.name for column in GPU_COLUMNS].index("power_w")
    values = [math.nan] * len(GPU_COLUMNS)
    samples = 101_000
    for number in range(samples):
        values[place] = 100.0 if number < samples // 2 else 700.0
        recorder.add_sample(source, number * 500_000_000, values)
    recorder.close()

    (told,) = facts_of(tmp_path / "long.trtune").gpus

    assert told.times_s[0] < 600
    assert told.times_s[-1] > 0.98 * samples / 2
    power = told.columns["power_w"]
    assert (power[0], power[-1]) == (100.0, 700.0)
    assert sum(value == 100.0 for value in power) == pytest.approx(len(power) / 2, abs=2)


def test_of_very_many_events_the_last_are_told_and_the_others_counted(tmp_path: Path) -> None:
    recorder = Recorder.create(tmp_path / "many.trtune", {"kind": "tune"})
    for number in range(MOST_EVENTS + 3):
        recorder.event("mark", f"mark {number}")
    recorder.close()

    facts = facts_of(tmp_path / "many.trtune")

    assert [event.text for event in facts.events] == [f"mark {number + 3}" for number in range(MOST_EVENTS)]
    assert "the first 3 events" in read(report_page(facts)).text


def test_what_follows_a_cut_table_of_markdown_is_no_row_of_it(tmp_path: Path) -> None:
    recorder = Recorder.create(tmp_path / "many.trtune", {"kind": "tune"})
    for number in range(MOST_TRIALS + 3):
        recorder.end_trial(recorder.start_trial("search", {}), "complete", score=float(number), feasible=True)
    recorder.close()

    lines = report_markdown(facts_of(tmp_path / "many.trtune")).splitlines()

    assert lines[lines.index("and 3 more") - 1] == ""


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5), st.booleans())
def test_any_number_of_a_stranger_finds_a_place_on_a_scale(values: list[float], zero: bool) -> None:
    for scale in (linear_scale(values, 5, zero), log_scale(values, 5, zero)):
        assert all(0 <= scale.share(value) <= 1 for value in values)
        assert all(short(tick) for tick in scale.ticks)


@example([6.0, -5e-324], False)
@given(st.lists(st.floats(-1e12, 1e12), max_size=20), st.booleans())
def test_scales_hold_their_values(values: list[float], zero: bool) -> None:
    scale = linear_scale(values, 5, zero)

    assert scale.low < scale.high
    for value in values:
        room = 1e-6 * abs(value) + 1e-90  # nothing smaller is told apart
        assert scale.low - room <= value <= scale.high + room
    assert len(scale.ticks) <= 13


@example([5.001e11, 5.003e11, 5.004e11, 5.006e11, 5.009e11, 5.013e11])
@given(st.lists(st.floats(1e-6, 1e12), min_size=1, max_size=20))
def test_logarithmic_scales_hold_their_values(values: list[float]) -> None:
    scale = log_scale(values, 5, False)

    assert all(0 <= scale.share(value) <= 1 for value in values)
    assert 1 <= len(scale.ticks) <= 25


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.12345, "0.123"), (999.4, "999"), (1234.0, "1234"), (56789.0, "56.8k"), (float("nan"), "–")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text


def test_a_chart_tells_its_points_and_leaves_gaps() -> None:
    svg = draw(
        Chart("t", "says", "x", "y", [Series("a", [(1, 2), (2, float("nan")), (3, 4)], tips=["one", "", "three"])]),
        300,
        200,
    )

    assert svg.get("data-points", "").count('"') == 4
    assert len(svg.findall("polyline")) == 2
