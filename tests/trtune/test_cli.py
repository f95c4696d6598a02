"""The command line: help, exit statuses, and one line for every mistake."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import psutil
import pytest

from sessions.packing import pack
from sessions.recorder import Recorder
from tests.trtune.conftest import Program, objects
from trtune.cli import COMMANDS, run
from trtune.start import start_worker
from tui.notes import notes_path

DEMO = Path(__file__).parents[1] / "data" / "demo.trtune"
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_help_lists_every_command(program: Program) -> None:
    done = program.run("--help")

    assert done.returncode == 0
    assert all(f"    {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(program: Program, command: str) -> None:
    done = program.run(command, "--help")

    assert done.returncode == 0
    assert f"trtune {command}" in done.stdout


def test_a_fault_of_our_own_is_one_line_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "strange.trtune"
    Recorder.create(path, {"kind": "tune", "engine": "no table"}).close()

    assert run(["replay", str(path), "--headless"]) == 1

    told = capsys.readouterr().err
    assert told.startswith("trtune: a fault in trtune: AttributeError: ")
    assert told.count("\n") == 1
    assert "TRTUNE_TRACEBACK=1" in told


@pytest.mark.parametrize("plan", [None, {"engine": {"no_such_field": 1}}])
def test_a_session_without_a_plan_that_can_be_read_says_so(
    plan: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old.trtune"
    Recorder.create(path, {"kind": "tune"} if plan is None else {"kind": "tune", "plan": plan}).close()

    assert run(["sessions", "rescore", str(path), "--preset", "latency"]) == 1
    assert "plan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("nonsense",), 2, "invalid choice"),
        (("tune",), 2, "give a plan file, or --demo"),
        (("tune", "nowhere.toml"), 2, "nowhere.toml: No such file"),
        (("tune", "--demo", "--set", "search.trails=3"), 2, "did you mean trials?"),
        (("tune", "--demo", "--set", "knobs.max_batch_size=[0]"), 2, "knobs.max_batch_size = 0"),
        (("tune", "--demo", "--set", "workload.prefix.tokens=9000"), 2, "must be below workload.isl"),
        (("tune", "--demo", "--set", "quality.prompts='/nowhere'"), 2, "quality.prompts: /nowhere: No such file"),
        (("bench", "http://127.0.0.1:1"), 4, "is it running, is the URL right?"),
        (("watch", "http://127.0.0.1:1"), 4, "is it running, is the URL right?"),
        (("watch", "127.0.0.1:8000"), 2, "write it like http://"),
        (("bench", "http://[::1"), 2, "write it like http://"),
        (
            ("watch", "http://127.0.0.1:1", "--api-key-env", "NOT_SET"),
            2,
            "--api-key-env NOT_SET: there is no such variable",
        ),
        (("tune", "--demo", "--storage", "here"), 2, "write postgresql://USER@HOST"),
        (("bench", "http://127.0.0.1:1", "--rate", "1", "--concurrency", "1"), 2, "not both"),
        (("bench", "http://127.0.0.1:1", "--duration", "9", "--max", "5"), 2, "--duration"),
        (("bench", "http://127.0.0.1:1", "--artifacts", "x"), 2, "--compat aiperf"),
        (("bench", "http://127.0.0.1:1", "--compat", "aiperf", "--artifacts", "/proc/x"), 2, "/proc/x"),
        (("replay", "nowhere"), 1, "no such session"),
        (("replay", "nowhere", "--fps", "-2"), 2, "--fps: -2: must be a number from 0.2 to 20"),
        (("attach",), 1, "no session in"),
        (("report", str(DEMO), "--dark", "-o", "x.html"), 2, "--format png"),
        (("export", "nowhere"), 1, "no such session"),
        (("sessions", "list", "/nowhere"), 2, "/nowhere: no such folder"),
        (("sessions", "prune", "/nowhere", "--empty"), 2, "/nowhere: no such folder"),
    ],
)
def test_a_mistake_is_one_clear_line(program: Program, arguments: tuple[str, ...], status: int, told: str) -> None:
    done = program.run(*arguments)

    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_session_path_that_exists_is_left_alone(program: Program, tmp_path: Path) -> None:
    taken = tmp_path / "taken.trtune"
    taken.write_text("precious")

    done = program.run("tune", "--demo", "--headless", "--session", taken)

    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert taken.read_text() == "precious"


def test_a_file_that_is_no_session_is_not_replayed(program: Program, tmp_path: Path) -> None:
    other = tmp_path / "other.trtune"
    other.write_text("not a session")

    done = program.run("replay", other)

    assert done.returncode == 1
    assert "is not a trtune session" in done.stderr


def test_a_session_in_which_nothing_was_measured_breaks_no_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nothing.trtune"
    recorder = Recorder.create(path, {"kind": "tune", "plan": {"engine": {"name": "trtllm", "model": "m"}}})
    recorder.set_worker("failed", "the server cannot be started")
    recorder.close()

    assert run(["replay", str(path), "--headless"]) == 1
    assert run(["export", str(path)]) == 1

    told = capsys.readouterr()
    assert "none was measured" in told.out
    assert "no trial was measured" in told.err
    assert "SLO" not in told.out + told.err


def test_a_session_that_is_worked_on_is_not_said_to_be_without_a_worker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "live.trtune"
    with contextlib.closing(Recorder.create(path, {"kind": "tune"})) as recorder:
        recorder.set_worker("running", "trial 3")

        assert run(["replay", str(path), "--headless"]) == 0

    assert f"look at it live with: trtune attach {path}" in capsys.readouterr().out


def test_ctrl_c_while_the_worker_starts_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "begun.trtune"
    Recorder.create(path, {"kind": "tune"}).close()

    def interrupt(_seconds: float) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start_worker(path)

    assert not [child for child in psutil.Process().children() if str(path) in child.cmdline()]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_what_the_terminal_cannot_show_and_names_that_are_no_text_end_nothing(program: Program, tmp_path: Path) -> None:
    strange = tmp_path / "strange"
    strange.mkdir()
    path = Path(shutil.copy(DEMO, strange / os.fsdecode(b"odd\xff.trtune")))

    listed = program.run("sessions", "--json", "list", strange)
    compared = subprocess.run(
        [sys.executable, "-m", "trtune", "compare", f"{path}#0", f"{path}#1"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=False,
    )  # fmt: skip

    assert [str(entry["path"])[-11:] for entry in objects(listed.stdout)] == ["odd\ufffd.trtune"]
    assert (compared.returncode, b"at concurrency" in compared.stdout) == (0, True), compared.stderr


def test_streams_that_are_closed_are_done_without(tmp_path: Path) -> None:
    command = f'exec "{sys.executable}" -m trtune "$@" <&- >&- 2>&-'

    done = subprocess.run(["sh", "-c", command, "sh", "export", str(DEMO)], check=False)
    bare = subprocess.run(["sh", "-c", command, "sh"], check=False)

    assert (done.returncode, bare.returncode) == (0, 0)


def test_sessions_are_listed_and_broken_ones_named(program: Program, sessions_folder: Path) -> None:
    sessions_folder.mkdir()
    Recorder.create(sessions_folder / "good.trtune", {"kind": "tune"}).close()
    Recorder.create(sessions_folder / "odd.trtune", {"kind": "tune", "engine": "no table"}).close()
    (sessions_folder / "bad.trtune").write_text("x")
    (sessions_folder / "gone.trtune").symlink_to(sessions_folder / "nowhere")

    done = program.run("sessions", "--json", "list")

    states = {Path(str(entry["path"])).name: entry["state"] for entry in objects(done.stdout)}
    assert states == {"good.trtune": "cut off", "odd.trtune": "cut off", "bad.trtune": "unreadable"}


def test_the_doctor_examines_this_host(program: Program) -> None:
    done = program.run("doctor", "--json")

    assert done.returncode == 0, done.stdout
    topics = {finding["topic"] for finding in objects(done.stdout)}
    assert topics >= {"trtune", "sqlite", "packages", "sessions", "gpu", "trtllm", "llamacpp"}
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    assert topics >= {*extras} - {"dev"}


def test_a_session_is_packed_verified_replayed_from_the_pack_and_unpacked(program: Program, tmp_path: Path) -> None:
    pack = tmp_path / "demo.trtune.xz"

    assert program.run("sessions", "pack", DEMO, "--anonymise", "--output", pack).returncode == 0
    verified = program.run("sessions", "verify", DEMO, pack, "--json")
    replayed = program.run("replay", pack, "--json")
    assert program.run("sessions", "unpack", pack, "--output", tmp_path / "again.trtune").returncode == 0

    assert [told["sound"] for told in objects(verified.stdout)] == [True, True]
    assert replayed.returncode == 0
    assert objects(replayed.stdout)
    assert (tmp_path / "again.trtune").is_file()


def test_a_damaged_session_fails_verification_and_its_repair_passes(program: Program, tmp_path: Path) -> None:
    path = Path(shutil.copy(DEMO, tmp_path / "run.trtune"))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE trial SET result = 'torn' WHERE number = 1")
    connection.commit()
    connection.close()

    verified = program.run("sessions", "verify", path)
    repaired = program.run("sessions", "repair", path)

    assert verified.returncode == 1
    assert "trial 1" in verified.stdout
    assert repaired.returncode == 0
    assert "1 value of trial.result could not be read" in repaired.stdout


def test_what_is_repaired_of_a_pack_lies_beside_the_pack(program: Program, tmp_path: Path) -> None:
    pack(DEMO, tmp_path / "demo.trtune.xz")

    done = program.run("sessions", "repair", tmp_path / "demo.trtune.xz")

    assert done.returncode == 0
    assert (tmp_path / "demo.repaired.trtune").is_file()


@pytest.mark.parametrize("words", [("sessions", "rescore", "{}", "--objective", "goodput"), ("tune", "--resume", "{}")])
def test_nothing_is_written_to_what_a_pack_holds(program: Program, tmp_path: Path, words: tuple[str, ...]) -> None:
    pack(DEMO, tmp_path / "demo.trtune.xz")

    done = program.run(*(word.format(tmp_path / "demo.trtune.xz") for word in words))

    assert done.returncode == 2
    assert "trtune sessions unpack" in done.stderr


def test_prune_says_what_it_would_delete_and_deletes_only_when_told(program: Program, tmp_path: Path) -> None:
    old, new = (Path(shutil.copy(DEMO, tmp_path / name)) for name in ("old.trtune", "new.trtune"))
    other = tmp_path / "notes.trtune"
    other.write_text("not a session")
    notes_path(old).write_text("a note on it")
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))

    looked = program.run("sessions", "prune", tmp_path, "--older-than", "30d")
    assert (old.exists(), "would be deleted" in looked.stdout) == (True, True)
    program.run("sessions", "prune", tmp_path, "--older-than", "30d", "--yes")

    assert (old.exists(), notes_path(old).exists()) == (False, False)
    assert (new.exists(), other.exists()) == (True, True)
    assert program.run("sessions", "prune", tmp_path).returncode == 2
