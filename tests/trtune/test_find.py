"""What the wizard finds on this host, and the plans it writes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import TestServer

from tests.engines.fake_docker_api import FakeContainer, FakeDocker
from trtune.door import make_door, plan_tables
from trtune.find import _containers, _models
from tui.front_door import Wish

if TYPE_CHECKING:
    from pathlib import Path


def test_models_of_caches_and_folders_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub" / "models--meta-llama--Llama-3.1-8B" / "snapshots").mkdir(parents=True)
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    (tmp_path / "folder" / "model.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)

    names = [name for name, _ in _models({"HF_HOME": str(tmp_path)})]

    assert names[:1] == ["meta-llama/Llama-3.1-8B"]
    assert {str(tmp_path / "tiny.gguf"), str(tmp_path / "folder")} <= set(names)


async def test_ports_of_containers_are_asked_on_this_host_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image of a running container may have been removed meanwhile: it is not asked for."""
    pytest.importorskip("docker")
    daemon = FakeDocker()
    bindings = {"8000/tcp": [{"HostPort": "8123"}], "8000/udp": [{"HostPort": "8124"}]}
    created = {"name": "serving", "Image": "server:1", "HostConfig": {"PortBindings": bindings}}
    daemon.containers["a" * 64] = FakeContainer(created)
    async with TestServer(daemon.app()) as server:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.port}")
        notes: list[str] = []

        found = await asyncio.to_thread(lambda: list(_containers(notes)))

        monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere.invalid:2375")
        elsewhere = await asyncio.to_thread(lambda: list(_containers(notes)))
    assert {(each.port, each.how) for each in found} == {(8123, "container serving, server:1")}
    assert elsewhere == []
    assert notes == []


def test_wish_becomes_a_plan_that_reads_back() -> None:
    wish = Wish("tune", "trtllm", model="/models/llama", levels="4, 16", slos="ttft:p99:<=:500", trials="9")

    text = make_door().draft(wish) if make_door().draft else ""  # type: ignore[misc]

    assert 'model = "/models/llama"' in text
    assert plan_tables(wish)["load"]["levels"] == [4, 16]
    assert plan_tables(wish)["search"] == {"trials": 9}


def test_running_server_is_attached_to() -> None:
    tables = plan_tables(Wish("bench", "trtllm", url="http://127.0.0.1:8000", model="llama"))

    assert tables["engine"] == {"name": "trtllm", "model": "llama", "launch": "attach", "url": "http://127.0.0.1:8000"}
    assert "search" not in tables


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (Wish("tune", "trtllm"), "model is missing"),
        (Wish("tune", "trtllm", model="m", isl="long"), "workload.isl"),
        (Wish("tune", "trtllm", model="m", levels=""), "load.levels"),
        (Wish("tune", "trtllm", model="m", levels="8, many"), "load.levels"),
        (Wish("tune", "trtllm", model="m", slos="ttft under 5"), "SLO"),
        (Wish("tune", "trtllm", model="m", trials="0"), "search.trials"),
    ],
)
def test_mistake_names_the_field(wish: Wish, told: str) -> None:
    draft = make_door().draft
    assert draft is not None

    with pytest.raises(ValueError, match=told):
        draft(wish)
