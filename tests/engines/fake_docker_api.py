"""A small Docker Engine API of ours: records what it is sent, and answers as the real one does.

A started container is a health page on the port that was mapped for it, or on the URL's own port with the host's network; or,
where a dialect is named, a process of the simulated engine with the container's own command and variables.
"""

from __future__ import annotations

import asyncio
import io
import json
import struct
import tarfile
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from .simulated_workload import SimulatedWorkload

API_VERSION = "1.44"


@dataclass
class FakeContainer:
    """One container.

    Attributes:
        created: Body of its create request.
        files: Files copied into it.
        lines: What it logs once it is started.
        state: `State` of its inspection.
    """

    created: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    state: dict[str, Any] = field(default_factory=lambda: {"Running": False, "Status": "created"})
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    site: web.AppRunner | None = None
    process: SimulatedWorkload | None = None

    def end(self, exit_code: int, **more: object) -> None:
        """Its process ends."""
        self.state = {"Running": False, "Status": "exited", "ExitCode": exit_code, **more}
        self.ended.set()


class FakeDocker:
    """The daemon.

    Attributes:
        images: Images that are there.
        containers: Those that exist.
        stopped: Grace in seconds of each stop, by container.
        removed: Identifiers of those removed.
        health_port: Port of a container's health page when none is mapped.
        log_lines: What new containers log.
        start_error: Text of the 500 that a start gets.
        exit_code: Exit status with which a started container ends at once.
        asked_to_start: Set when the first start is asked for.
        may_start: While it is not set, starts wait.
        dialect: Dialect of the simulated engine that runs in containers; empty: a health page.
        created: Bodies of all create requests.
    """

    def __init__(self) -> None:
        self.images = {"server:1"}
        self.containers: dict[str, FakeContainer] = {}
        self.stopped: dict[str, int] = {}
        self.removed: list[str] = []
        self.health_port = 0
        self.log_lines: tuple[str, ...] = ()
        self.start_error = ""
        self.exit_code: int | None = None
        self.asked_to_start = asyncio.Event()
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.dialect = ""
        self.created: list[dict[str, Any]] = []

    def app(self) -> web.Application:
        app = web.Application()
        prefix = f"/v{API_VERSION}/containers"
        app.router.add_get("/version", self._version)
        app.router.add_get(f"{prefix}/json", self._list)
        app.router.add_post(f"{prefix}/create", self._create)
        app.router.add_post(f"{prefix}/{{id}}/start", self._start)
        app.router.add_post(f"{prefix}/{{id}}/stop", self._stop)
        app.router.add_delete(f"{prefix}/{{id}}", self._remove)
        app.router.add_put(f"{prefix}/{{id}}/archive", self._archive)
        app.router.add_get(f"{prefix}/{{id}}/json", self._inspect)
        app.router.add_get(f"{prefix}/{{id}}/logs", self._logs)
        app.router.add_get(f"{prefix}/{{id}}/top", self._top)
        return app

    @property
    def only(self) -> FakeContainer:
        (container,) = self.containers.values()
        return container

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"ApiVersion": API_VERSION, "MinAPIVersion": "1.24", "Version": "25.0"})

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response([_summary(name, container.created) for name, container in self.containers.items()])

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["Image"] not in self.images:
            return _error(404, f"No such image: {body['Image']}")
        self.created.append(body)
        name = f"{len(self.containers) + len(self.removed):064x}"
        self.containers[name] = FakeContainer(body | {"name": request.query.get("name", "")}, lines=self.log_lines)
        return web.json_response({"Id": name, "Warnings": []}, status=201)

    async def _start(self, request: web.Request) -> web.Response:
        self.asked_to_start.set()
        await self.may_start.wait()
        if self.start_error:
            return _error(500, self.start_error)
        container = self.containers[request.match_info["id"]]
        container.state = {"Running": True, "Status": "running"}
        if self.exit_code is not None:
            container.end(self.exit_code)
            return web.Response(status=204)
        if self.dialect:
            await self._run_simulated(container)
        else:
            await self._serve_health(container)
        return web.Response(status=204)

    async def _run_simulated(self, container: FakeContainer) -> None:
        variables = dict(pair.split("=", 1) for pair in container.created["Env"])
        container.process = SimulatedWorkload(self.dialect)
        await container.process.start(container.created["Cmd"] or (), variables)

    async def _serve_health(self, container: FakeContainer) -> None:
        bindings = container.created["HostConfig"].get("PortBindings") or {}
        port = next((int(bound[0]["HostPort"]) for bound in bindings.values()), self.health_port)
        app = web.Application()
        app.router.add_get("/health", _well)
        container.site = web.AppRunner(app)
        await container.site.setup()
        await web.TCPSite(container.site, "127.0.0.1", port).start()

    async def _stop(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if name not in self.containers:
            return _error(404, f"No such container: {name}")
        self.stopped[name] = int(request.query["t"])
        await self._end(self.containers[name], 143)
        return web.Response(status=204)

    async def _remove(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if name not in self.containers:
            return _error(404, f"No such container: {name}")
        await self._end(self.containers.pop(name), 137)
        self.removed.append(name)
        return web.Response(status=204)

    async def _end(self, container: FakeContainer, code: int) -> None:
        if container.process is not None:
            await container.process.stop()
        if container.site is not None:
            await container.site.cleanup()
            container.site = None
        if container.state["Running"]:
            container.end(code)

    async def _archive(self, request: web.Request) -> web.Response:
        container = self.containers[request.match_info["id"]]
        with tarfile.open(fileobj=io.BytesIO(await request.read())) as archive:
            for entry in archive.getmembers():
                content = archive.extractfile(entry)
                assert content is not None
                container.files[request.query["path"] + entry.name] = content.read().decode()
        return web.Response()

    async def _inspect(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if name not in self.containers:
            return _error(404, f"No such container: {name}")
        container = self.containers[name]
        if container.process is not None and container.process.exit_code is not None and container.state["Running"]:
            container.end(container.process.exit_code)
        config = {"Tty": False, "Labels": container.created.get("Labels")}
        return web.json_response({"Id": name, "State": container.state, "Config": config})

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        container = self.containers[request.match_info["id"]]
        response = web.StreamResponse(headers={"Content-Type": "application/vnd.docker.multiplexed-stream"})
        await response.prepare(request)
        for number, line in enumerate(container.lines):
            await _log_line(response, number, line)
        if container.process is not None:
            await _follow(response, container.process)
        else:
            await container.ended.wait()
        return response

    async def _top(self, request: web.Request) -> web.Response:
        rows = [["root", "4242", "1", "0", "08:00", "?", "00:00:01", "server"]]
        titles = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
        return web.json_response({"Titles": titles, "Processes": rows})


async def _follow(response: web.StreamResponse, process: SimulatedWorkload) -> None:
    """Send lines as they come, until the process has ended."""
    sent = 0
    while not process.ended.is_set() or sent < len(process.lines):
        for line in process.lines[sent:]:
            await _log_line(response, sent, line)
            sent += 1
        await asyncio.sleep(0.02)


async def _log_line(response: web.StreamResponse, number: int, line: str) -> None:
    data = line.encode() + b"\n"
    await response.write(struct.pack(">BxxxI", 1 + number % 2, len(data)) + data)


async def _well(_: web.Request) -> web.Response:
    return web.Response()


def _error(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=json.dumps({"message": text}), content_type="application/json")


def _summary(name: str, created: dict[str, Any]) -> dict[str, Any]:
    """A container as the list has it: mapped ports once for each family of addresses."""
    bindings = created.get("HostConfig", {}).get("PortBindings") or {}
    ports = [
        {
            "IP": address,
            "PrivatePort": int(inside.partition("/")[0]),
            "PublicPort": int(place["HostPort"]),
            "Type": inside.partition("/")[2] or "tcp",
        }
        for inside, places in bindings.items()
        for place in places
        for address in ("0.0.0.0", "::")
    ]
    return {"Id": name, "Names": [f"/{created['name']}"], "Image": created["Image"], "Ports": ports}
