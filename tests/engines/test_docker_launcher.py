"""Servers in Docker containers: what the daemon is asked for, and what its answers mean."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from engines.errors import BadConfiguration, EngineError, StartFailed, Unreachable
from engines.failure import FailureRule
from engines.launch._docker_api import LABEL, daemon_host, reachable_url
from engines.launch.container import Container, Mount
from engines.launch.docker import DockerLauncher
from engines.launch.ports import free_port
from engines.launch.spec import LaunchRequest, LaunchSpec
from engines.nim import ENGINE as NIM

from .fake_docker_api import FakeDocker

pytest.importorskip("docker")

OUT_OF_MEMORY = FailureRule("out_of_memory", re.compile("KV cache full"), "no memory: lower the batch", ("batch",))
BRIDGED = Container("server:1", gpus=("0", "GPU-1f"), network="bridge", port=8000)


@pytest.fixture
async def docker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeDocker]:
    """A fake daemon, with `DOCKER_HOST` set to it."""
    daemon = FakeDocker()
    runner = web.AppRunner(daemon.app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{runner.addresses[0][1]}")
    yield daemon
    for container in daemon.containers.values():
        container.ended.set()
        if container.site is not None:
            await container.site.cleanup()
    await runner.cleanup()


def spec_for(container: Container | None, files: dict[Path, str] | None = None) -> LaunchSpec:
    return LaunchSpec(
        argv=("serve", "--port", "8000"),
        url=f"http://127.0.0.1:{free_port()}",
        ready_path="/health",
        environment={"MODE": "fast"},
        files=files or {},
        failures=(OUT_OF_MEMORY,),
        inherit=("NGC_API_KEY", "NOT_SET"),
        container=container,
    )


async def test_a_container_is_started_with_all_that_the_specification_says(
    docker: FakeDocker, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NGC_API_KEY", "secret")
    container = Container(
        "server:1",
        gpus=("0", "GPU-1f"),
        mounts=(Mount("/models", "/opt/models", read_only=True), Mount("cache", "/opt/cache")),
        network="bridge",
        port=8000,
        shm_size_bytes=2**30,
        ipc="host",
        ulimits={"memlock": -1},
        user="1000:1000",
    )
    spec = spec_for(container, {tmp_path / "config.yaml": "a: 1\n"})

    server = await DockerLauncher().start(spec, lambda _: None)
    await server.wait_ready(http, 30)

    sent, host = docker.only.created, docker.only.created["HostConfig"]
    assert (sent["Image"], sent["Entrypoint"], sent["Cmd"]) == ("server:1", ["serve"], ["--port", "8000"])
    assert set(sent["Env"]) == {"MODE=fast", "NGC_API_KEY=secret"}
    assert sent["User"] == "1000:1000"
    assert LABEL in sent["Labels"]
    assert host["DeviceRequests"][0]["DeviceIDs"] == ["0", "GPU-1f"]
    assert host["DeviceRequests"][0]["Capabilities"] == [["gpu"]]
    assert host["PortBindings"] == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": spec.url.rpartition(":")[2]}]}
    assert [(mount["Type"], mount["Source"], mount["Target"], mount["ReadOnly"]) for mount in host["Mounts"]] == [
        ("bind", "/models", "/opt/models", True),
        ("volume", "cache", "/opt/cache", False),
    ]
    assert (host["ShmSize"], host["IpcMode"]) == (2**30, "host")
    assert host["Ulimits"] == [{"Name": "memlock", "Soft": -1, "Hard": -1}]
    assert docker.only.files == {str(tmp_path / "config.yaml"): "a: 1\n"}
    assert server.pids == (4242,)
    assert server.owned
    await server.stop()


async def test_a_nim_gets_its_key_from_this_environment_and_its_flags_as_the_command(
    docker: FakeDocker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NGC_API_KEY", "hunter2")
    docker.images.add("registry/nim/llama:2.0.5")
    container = Container("registry/nim/llama:2.0.5", network="bridge")
    request = LaunchRequest("", {"max-num-seqs": 64}, "127.0.0.1", free_port(), tmp_path, container=container)
    spec = NIM.launch(request)

    server = await DockerLauncher().start(spec, lambda _: None)

    sent = docker.only.created
    assert sent["Cmd"] == ["nim-serve", "--max-num-seqs", "64"]
    assert sent.get("Entrypoint") is None
    assert {"NGC_API_KEY=hunter2", "NIM_SERVER_PORT=8000"} <= set(sent["Env"])
    assert sent["HostConfig"]["ShmSize"] == 16 * 2**30
    assert "hunter2" not in repr(spec)
    await server.stop()


async def test_behind_a_bridge_all_ports_of_a_server_are_mapped(docker: FakeDocker) -> None:
    spec = replace(spec_for(Container("server:1", network="bridge", port=8000)), ports=(0, 2))

    server = await DockerLauncher().start(spec, lambda _: None)

    bound = docker.only.created["HostConfig"]["PortBindings"]
    first = int(spec.url.rpartition(":")[2])
    assert {inside: int(outside[0]["HostPort"]) for inside, outside in bound.items()} == {
        "8000/tcp": first,
        "8002/tcp": first + 2,
    }
    assert set(docker.only.created["ExposedPorts"]) == {"8000/tcp", "8002/tcp"}
    await server.stop()


async def test_with_the_hosts_network_nothing_is_mapped(docker: FakeDocker, http: aiohttp.ClientSession) -> None:
    spec = spec_for(Container("server:1"))
    docker.health_port = int(spec.url.rpartition(":")[2])

    server = await DockerLauncher().start(spec, lambda _: None)
    await server.wait_ready(http, 30)

    host = docker.only.created["HostConfig"]
    assert host["NetworkMode"] == "host"
    assert not host.get("PortBindings")
    assert host["DeviceRequests"][0]["Count"] == -1
    await server.stop()


async def test_an_entry_point_that_is_kept_stays_in_front_of_the_command(docker: FakeDocker) -> None:
    server = await DockerLauncher().start(
        spec_for(Container("server:1", gpus=(), network="bridge", keep_entrypoint=True)), lambda _: None
    )

    assert docker.only.created.get("Entrypoint") is None
    assert docker.only.created["Cmd"] == ["serve", "--port", "8000"]
    assert not docker.only.created["HostConfig"].get("DeviceRequests")
    await server.stop()


async def test_stopping_leaves_no_container(docker: FakeDocker, http: aiohttp.ClientSession) -> None:
    server = await DockerLauncher(stop_grace_s=7).start(spec_for(BRIDGED), lambda _: None)
    await server.wait_ready(http, 30)

    await server.stop()
    await server.stop()

    assert docker.containers == {}
    assert len(docker.removed) == 1
    assert list(docker.stopped.values()) == [7]
    assert server.pids == ()


async def test_a_start_that_is_cancelled_leaves_no_container(docker: FakeDocker) -> None:
    docker.may_start.clear()
    starting = asyncio.create_task(DockerLauncher().start(spec_for(BRIDGED), lambda _: None))
    await asyncio.wait_for(docker.asked_to_start.wait(), 30)

    starting.cancel()
    await asyncio.sleep(0)
    docker.may_start.set()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert len(docker.removed) == 1
    assert docker.containers == {}


async def test_the_log_of_both_streams_is_kept(docker: FakeDocker, http: aiohttp.ClientSession) -> None:
    docker.log_lines = ("one", "two", "three")
    heard: list[str] = []
    complete = asyncio.Event()

    def hear(line: str) -> None:
        heard.append(line)
        if len(heard) == len(docker.log_lines):
            complete.set()

    server = await DockerLauncher().start(spec_for(BRIDGED), hear)
    await server.wait_ready(http, 30)
    await asyncio.wait_for(complete.wait(), 30)  # a busy machine may be slow to read

    await server.stop()

    assert heard == ["one", "two", "three"]
    assert tuple(server.log_lines) == ("one", "two", "three")


async def test_a_telling_line_ends_the_wait_and_the_container(docker: FakeDocker, http: aiohttp.ClientSession) -> None:
    docker.log_lines = ("loading", "KV cache full")
    docker.health_port = free_port()  # never asked: no health page where the server should be
    server = await DockerLauncher().start(spec_for(Container("server:1")), lambda _: None)

    with pytest.raises(StartFailed) as raised:
        await server.wait_ready(http, 60)

    assert raised.value.failure.kind == "out_of_memory"
    assert raised.value.failure.accuses == ("batch",)
    assert docker.containers == {}


async def test_a_container_that_ends_at_once_is_told_with_its_last_line(
    docker: FakeDocker, http: aiohttp.ClientSession
) -> None:
    docker.log_lines, docker.exit_code = ("something odd",), 3
    server = await DockerLauncher().start(spec_for(BRIDGED), lambda _: None)

    with pytest.raises(StartFailed, match=r"ended before it was ready \(exit code 3\): something odd"):
        await server.wait_ready(http, 60)

    assert docker.containers == {}


async def test_a_server_that_is_never_ready_is_removed(docker: FakeDocker, http: aiohttp.ClientSession) -> None:
    docker.health_port = free_port()
    server = await DockerLauncher().start(spec_for(Container("server:1")), lambda _: None)

    with pytest.raises(StartFailed, match=r"not ready within 0\.5 s"):
        await server.wait_ready(http, 0.5)

    assert docker.containers == {}


@pytest.mark.parametrize(
    ("code", "more", "infeasible", "text"),
    [
        (1, {}, True, "exit code 1"),
        (137, {"OOMKilled": True}, True, "ran out of memory"),
        (143, {}, False, "exit code 143"),
    ],
)
async def test_a_container_that_ends_in_use_is_noticed(
    docker: FakeDocker,
    http: aiohttp.ClientSession,
    code: int,
    more: dict[str, object],
    infeasible: bool,
    text: str,
) -> None:
    server = await DockerLauncher().start(spec_for(BRIDGED), lambda _: None)
    await server.wait_ready(http, 30)
    assert await server.check(http) is None

    docker.only.end(code, **more)
    failure = await server.check(http)

    assert failure is not None
    assert (failure.kind, failure.exit_code, failure.infeasible) == ("died", code, infeasible)
    assert text in failure.text
    await server.stop()


async def test_a_container_removed_by_somebody_is_no_fault_of_the_settings(
    docker: FakeDocker, http: aiohttp.ClientSession
) -> None:
    server = await DockerLauncher().start(spec_for(BRIDGED), lambda _: None)
    await server.wait_ready(http, 30)
    container = docker.only
    docker.containers.clear()

    failure = await server.check(http)

    assert failure is not None
    assert not failure.infeasible
    container.ended.set()
    await server.stop()
    assert container.site is not None
    await container.site.cleanup()


async def test_an_unhealthy_container_counts_the_second_time(docker: FakeDocker, http: aiohttp.ClientSession) -> None:
    server = await DockerLauncher().start(spec_for(BRIDGED), lambda _: None)
    await server.wait_ready(http, 30)
    docker.only.state["Health"] = {"Status": "unhealthy"}

    first, second = await server.check(http), await server.check(http)

    assert first is None
    assert second is not None
    assert second.kind == "hung"
    await server.stop()


async def test_a_command_is_run_to_its_end(docker: FakeDocker) -> None:
    docker.log_lines, docker.exit_code = ("- profile one", "KV cache full"), 4

    finished = await DockerLauncher().run_to_end(spec_for(BRIDGED), timeout_s=60)

    assert (finished.exit_code, finished.lines) == (4, ("- profile one", "KV cache full"))
    assert finished.failure is not None
    assert finished.failure.kind == "out_of_memory"
    assert docker.containers == {}


async def test_a_command_without_end_is_ended(docker: FakeDocker) -> None:
    with pytest.raises(StartFailed, match=r"not ended within 0\.1 s"):
        await DockerLauncher().run_to_end(spec_for(BRIDGED), timeout_s=0.1)

    assert docker.containers == {}


async def test_two_servers_run_side_by_side(docker: FakeDocker, http: aiohttp.ClientSession) -> None:
    launcher = DockerLauncher()
    first = await launcher.start(spec_for(BRIDGED), lambda _: None)
    second = await launcher.start(spec_for(BRIDGED), lambda _: None)

    await first.wait_ready(http, 30)
    await second.wait_ready(http, 30)

    assert first.url != second.url
    await first.stop()
    assert len(docker.containers) == 1
    await second.stop()


async def test_a_missing_image_is_named(docker: FakeDocker) -> None:
    with pytest.raises(StartFailed, match="image none:2 is not on the Docker host; run: docker pull none:2") as raised:
        await DockerLauncher().start(spec_for(Container("none:2")), lambda _: None)

    assert not raised.value.failure.infeasible
    assert docker.containers == {}


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', "no_gpu"),
        (
            "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared "
            "object file: no such file or directory: unknown",
            "no_gpu",
        ),
        ("nvidia-container-cli: device error: 9: unknown device: unknown", "no_gpu"),
        ("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=9", "no_gpu"),
        (
            "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0, please update your driver to a "
            "newer version, or use an earlier cuda container: unknown",
            "unsupported",
        ),
        ("Bind for 127.0.0.1:8000 failed: port is already allocated", "port_in_use"),
        ('exec: "serve": executable file not found in $PATH', "bad_config"),
        ("something\nelse", "exited"),
    ],
)
async def test_a_refused_start_is_one_line_and_leaves_nothing(docker: FakeDocker, told: str, kind: str) -> None:
    docker.start_error = told

    with pytest.raises(StartFailed) as raised:
        await DockerLauncher().start(spec_for(BRIDGED), lambda _: None)

    assert raised.value.failure.kind == kind
    assert not raised.value.failure.infeasible
    assert "\n" not in str(raised.value)
    assert docker.containers == {}


async def test_a_port_that_is_taken_is_found_before_anything_is_made(docker: FakeDocker) -> None:
    spec = spec_for(BRIDGED)
    with socket.create_server(("127.0.0.1", int(spec.url.rpartition(":")[2]))), pytest.raises(StartFailed) as raised:
        await DockerLauncher().start(spec, lambda _: None)

    assert raised.value.failure.kind == "port_in_use"
    assert docker.containers == {}


async def test_a_launch_without_an_image_is_refused() -> None:
    with pytest.raises(BadConfiguration, match="needs an image"):
        await DockerLauncher().start(spec_for(None), lambda _: None)


async def test_no_daemon_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for endpoint in (f"tcp://127.0.0.1:{free_port()}", f"unix://{tmp_path}/none.sock"):
        monkeypatch.setenv("DOCKER_HOST", endpoint)

        with pytest.raises(Unreachable, match="no Docker daemon answers at") as raised:
            await DockerLauncher().start(spec_for(BRIDGED), lambda _: None)

        assert "\n" not in str(raised.value)


async def test_a_socket_that_this_user_may_not_use_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setattr("docker.transport.unixconn.UnixHTTPConnection.connect", refuse)

    with pytest.raises(Unreachable, match="this user may not use Docker"):
        await DockerLauncher().start(spec_for(BRIDGED), lambda _: None)


async def test_a_malformed_endpoint_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "carrier-pigeon://coop")

    with pytest.raises(EngineError, match="check DOCKER_HOST"):
        await DockerLauncher().start(spec_for(BRIDGED), lambda _: None)


def test_a_daemon_on_another_host_answers_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://gpu-box:2376")

    assert daemon_host() == "gpu-box"
    assert reachable_url("http://127.0.0.1:8000") == "http://gpu-box:8000"
    assert reachable_url("http://192.0.2.7:8000") == "http://192.0.2.7:8000"
