"""A pack: everything of the session but secrets and, if wished, names; and one made to harm is refused."""

from __future__ import annotations

import lzma
import sqlite3
from pathlib import Path

import pytest

from sessions import packing
from sessions.anonymise import Anonymiser
from sessions.errors import NotASession, SessionExists
from sessions.packing import Readable, is_packed, pack, unpack
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from sessions.requests import RequestTable
from sessions.secret_words import REMOVED, without_secrets
from sessions.verify import verify
from tests.sessions.request_rows import row

HOST, GPU, ADDRESS = "gpu-node-17.corp.example", "GPU-8f1e2d3c-1111-2222-3333-444455556666", "10.20.30.40"
KEY = "nvapi-" + "Ab1_" * 12


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.trtune"
    recorder = Recorder.create(
        path,
        {
            "host": {"name": HOST},
            "engine": {"url": f"http://{HOST}:8000"},
            "plan": {"model": "/home/alice/models/llama"},
        },
    )
    recorder.add_source("gpu", "gpu0", {"uuid": GPU, "host": HOST})
    recorder.set_worker("done", f"on {HOST}")
    level = recorder.start_level(recorder.start_trial("search", {"a": 1}), "concurrency", 1)
    recorder.add_requests(level, RequestTable.from_rows([row(error=0)], errors=(f"connect {ADDRESS}:8000 with {KEY}",)))
    recorder.log("server", "info", f"Authorization: Bearer {'x1' * 20} at {ADDRESS}")
    recorder.log("server", "info", "version 1.2.3")
    recorder.end_trial(0, "complete", score=2.0)
    recorder.close()
    return path


def everything(path: Path) -> bytes:
    """All bytes of a session and all texts of its blocks."""
    with SessionReader(path) as reader:
        texts = [text for level in reader.levels() for text in reader.requests(level.id).errors]
    return path.read_bytes() + " ".join(texts).encode()


def test_a_pack_holds_the_session_without_its_secrets(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    packed = pack(path, tmp_path / "run.trtune.xz", secrets=("version 1.2.3",))
    unpack(packed.path, tmp_path / "again.trtune")

    assert path.read_bytes() == before
    assert set(packed.secrets) == {"NVIDIA API key", "bearer token", "known secret"}
    shown = everything(tmp_path / "again.trtune")
    assert KEY.encode() not in shown
    assert b"x1x1" not in shown
    assert b"version 1.2.3" not in shown
    assert HOST.encode() in shown
    assert verify(tmp_path / "again.trtune").sound
    with SessionReader(path) as old, SessionReader(tmp_path / "again.trtune") as new:
        assert new.trials() == old.trials()
        assert new.meta()["packed"]["secrets_removed"]["NVIDIA API key"] == 1


def test_an_anonymised_pack_does_not_say_where_it_was_made(path: Path, tmp_path: Path) -> None:
    pack(path, tmp_path / "run.trtune.xz", anonymise=True)
    unpack(tmp_path / "run.trtune.xz", tmp_path / "again.trtune")

    shown = everything(tmp_path / "again.trtune")
    for name in (HOST, "gpu-node-17", GPU, ADDRESS, "alice"):
        assert name.encode() not in shown, name
    with SessionReader(tmp_path / "again.trtune") as reader:
        assert reader.sources()[0].info["host"] == reader.meta()["host"]["name"] == "host-1"
        assert reader.meta()["plan"]["model"] == "/home/user/models/llama"


@pytest.mark.parametrize(
    "address", ["2001:db8::17", "2001:DB8:0:0:1:2:3:4", "fe80::1ff:fe23:4567:890a", "3c:ec:ef:0a:1B:2c"]
)
def test_addresses_of_hosts_and_cards_are_taken_out_however_they_are_written(address: str) -> None:
    assert Anonymiser([])(f"connect [{address}]:8000 failed") == "connect [host-1]:8000 failed"


@pytest.mark.parametrize("text", ["at 12:30:45", "::1 listens", "a std::bad_alloc", "12:30:45.123", "GPU 0: 1:2"])
def test_what_only_looks_like_an_address_stays(text: str) -> None:
    assert Anonymiser([])(text) == text


def test_strange_names_of_columns_are_only_names(path: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute('CREATE TABLE trial_params (n INTEGER PRIMARY KEY, "a"", (SELECT 1) AS ""b" TEXT)')
    connection.execute("INSERT INTO trial_params VALUES (1, ?)", (f"token {KEY}",))
    connection.commit()
    connection.close()

    pack(path, tmp_path / "p.xz")
    unpack(tmp_path / "p.xz", tmp_path / "again.trtune")

    (told,) = sqlite3.connect(tmp_path / "again.trtune").execute("SELECT * FROM trial_params").fetchall()
    assert told == (1, f"token {REMOVED}")


def test_a_pack_of_a_growing_session_holds_what_is_there(tmp_path: Path) -> None:
    recorder = Recorder.create(tmp_path / "run.trtune", {})
    recorder.end_trial(recorder.start_trial("search", {}), "complete", score=1.0)
    pack(tmp_path / "run.trtune", tmp_path / "pack.xz")
    recorder.close()

    readable = Readable(tmp_path / "pack.xz")
    with SessionReader(readable.path) as reader:
        assert reader.trials()[0].score == 1.0
    readable.close()
    assert not readable.path.exists()


def test_nothing_is_overwritten(path: Path, tmp_path: Path) -> None:
    with pytest.raises(SessionExists):
        pack(path, path)
    pack(path, tmp_path / "p.xz")
    with pytest.raises(SessionExists):
        unpack(tmp_path / "p.xz", path)


@pytest.mark.parametrize("harm", ["cut short", "a bit flipped", "no session inside", "more behind", "no check"])
def test_a_harmed_pack_is_refused_and_leaves_nothing(path: Path, tmp_path: Path, harm: str) -> None:
    whole = pack(path, tmp_path / "p.xz").path.read_bytes()
    middle = len(whole) // 2
    harmed = {
        "cut short": whole[:-100],
        "a bit flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "no session inside": lzma.compress(b"#!/bin/sh\n" * 100),
        "more behind": whole + whole,
        "no check": lzma.compress(path.read_bytes(), check=lzma.CHECK_NONE),
    }[harm]
    (tmp_path / "h.xz").write_bytes(harmed)
    before = sorted(tmp_path.iterdir())

    assert is_packed(tmp_path / "h.xz")
    with pytest.raises(NotASession):
        unpack(tmp_path / "h.xz", tmp_path / "new.trtune")
    assert sorted(tmp_path.iterdir()) == before


def test_a_decompression_bomb_is_refused_early(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = lzma.compress(path.read_bytes() + bytes(64 << 20), check=lzma.CHECK_SHA256)
    (tmp_path / "bomb.xz").write_bytes(bomb)

    with pytest.raises(NotASession, match="times its size"):
        Readable(tmp_path / "bomb.xz")
    monkeypatch.setattr(packing, "MAX_SESSION_BYTES", 1 << 20)
    with pytest.raises(NotASession, match="unpacks to more than"):
        Readable(tmp_path / "bomb.xz")


def test_a_pack_that_wants_much_memory_is_refused(path: Path, tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    (tmp_path / "big.xz").write_bytes(lzma.compress(path.read_bytes(), filters=filters, check=lzma.CHECK_SHA256))

    with pytest.raises(NotASession, match="emory"):
        Readable(tmp_path / "big.xz")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("HF_TOKEN=hf_" + "a" * 30, f"HF_TOKEN={REMOVED}"),
        ('{"api_key": "abcdef123456"}', f'{{"api_key": "{REMOVED}"}}'),
        ("postgresql://bob:hunter22@db/x", f"postgresql://{REMOVED}@db/x"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF123", REMOVED),
        ("non-default args: {'api_key': ['abcdef123456']}", f"non-default args: {{'api_key': ['{REMOVED}']}}"),
        ('["serve", "--api-key", "abcdef123456"]', f'["serve", "--api-key", "{REMOVED}"]'),
        ("vllm serve m --api-key abcdef123456 --port 1", f"vllm serve m --api-key {REMOVED} --port 1"),
        ("--tokenizer org/model --max-num-tokens 8192", "--tokenizer org/model --max-num-tokens 8192"),
        ("max_num_tokens: 8192, api_key_env=NGC_API_KEY", "max_num_tokens: 8192, api_key_env=NGC_API_KEY"),
        ("task-specific skills at 12:30", "task-specific skills at 12:30"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out_and_nothing_else(text: str, left: str) -> None:
    assert without_secrets(text)[0] == left


def test_a_plain_file_is_read_in_place(path: Path) -> None:
    readable = Readable(path)
    readable.close()
    assert readable.path == path
    assert sqlite3.connect(path).execute("SELECT count(*) FROM trial").fetchone() == (1,)
