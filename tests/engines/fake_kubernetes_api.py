"""A small Kubernetes API server of ours: records what it is sent, and answers as the real one does.

A Deployment or NIMService gets a pod at once; the pod's port is a health page that port-forwarding reaches, or, where a dialect
is named, a process of the simulated engine with the pod's own command and variables.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from .simulated_workload import SimulatedWorkload

KINDS = {
    "deployments": "Deployment",
    "services": "Service",
    "configmaps": "ConfigMap",
    "secrets": "Secret",
    "nimservices": "NIMService",
    "nimcaches": "NIMCache",
    "pods": "Pod",
}
WITH_PODS = frozenset({"Deployment", "NIMService", "Pod"})
CHANNELS = "v4.channel.k8s.io"


@dataclass
class FakePod:
    """One pod.

    Attributes:
        name: Its name.
        labels: Its labels.
        lines: What it logs.
        container: `containerStatuses[0]`.
        phase: Its phase.
        conditions: Its conditions.
    """

    name: str
    labels: dict[str, str]
    lines: tuple[str, ...]
    container: dict[str, Any] = field(default_factory=lambda: {"state": {"running": {}}, "restartCount": 0})
    phase: str = "Running"
    conditions: list[dict[str, str]] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    process: SimulatedWorkload | None = None

    def json(self) -> dict[str, Any]:
        if self.process is not None and self.process.exit_code is not None:
            self.container = {"state": {"terminated": {"exitCode": self.process.exit_code, "reason": "Ended"}}}
        common = {"name": "server", "image": "server:1", "imageID": "", "ready": True, "restartCount": 0}
        return {
            "metadata": {"name": self.name, "labels": self.labels, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "server", "image": "server:1"}]},
            "status": {
                "phase": self.phase,
                "conditions": self.conditions,
                "containerStatuses": [{**common, **self.container}],
            },
        }


class FakeCluster:
    """The API server.

    Attributes:
        resources: Bodies of what exists, by kind and name.
        created: Bodies of all that was ever made, in order.
        pods: Pods that exist.
        namespaces: Namespaces that exist.
        deny: Status and text that each request to make something of a kind gets.
        states: `status.state` of new NIM Operator resources by kind.
        log_lines: What new pods log.
        health_status: Status of the pods' health page.
        unauthorised: Whether every request gets a 401.
        dialect: Dialect of the simulated engine that runs in pods; empty: the health page.
    """

    def __init__(self) -> None:
        self.resources: dict[tuple[str, str], dict[str, Any]] = {}
        self.created: list[dict[str, Any]] = []
        self.pods: list[FakePod] = []
        self.namespaces = {"lab"}
        self.deny: dict[str, tuple[int, str]] = {}
        self.states: dict[str, str] = {}
        self.log_lines: tuple[str, ...] = ()
        self.health_status = 200
        self.unauthorised = False
        self.health_port = 0
        self.dialect = ""

    def app(self) -> web.Application:
        app = web.Application()
        base = "/{api:api/v1|apis/apps/v1|apis/apps.nvidia.com/v1alpha1}/namespaces/{namespace}"
        app.router.add_get(f"{base}/pods", self._list_pods)
        app.router.add_get(f"{base}/pods/{{name}}/log", self._log)
        app.router.add_get(f"{base}/pods/{{name}}/portforward", self._port_forward)
        app.router.add_post(f"{base}/{{plural}}", self._create)
        app.router.add_get(f"{base}/{{plural}}/{{name}}", self._read)
        app.router.add_delete(f"{base}/{{plural}}/{{name}}", self._delete)
        app.router.add_get("/v1/health", self._health)
        app.middlewares.append(self._authorise)
        return app

    @property
    def kinds(self) -> list[str]:
        return [body["kind"] for body in self.created]

    def only(self, kind: str) -> dict[str, Any]:
        (body,) = (body for body in self.created if body["kind"] == kind)
        return body

    @web.middleware
    async def _authorise(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.unauthorised:
            return _refuse(401, "Unauthorized")
        response: web.StreamResponse = await handler(request)
        return response

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=self.health_status)

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        namespace, kind = request.match_info["namespace"], KINDS[request.match_info["plural"]]
        if kind in self.deny:
            return _refuse(*self.deny[kind])
        if namespace not in self.namespaces:
            return _refuse(404, f'namespaces "{namespace}" not found')
        name = body["metadata"]["name"]
        if kind in self.states:
            body["status"] = {"state": self.states[kind]}
        self.resources[kind, name] = body
        self.created.append(body)
        if kind in WITH_PODS:
            pod = FakePod(f"{name}-x1", {"app": name}, self.log_lines)
            self.pods.append(pod)
            if self.dialect:
                pod.process = SimulatedWorkload(self.dialect)
                await pod.process.start(*self._command(body))
        return web.json_response(body, status=201)

    def _command(self, body: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
        """Words and variables of a pod, with those of its Secret."""
        name, spec = body["metadata"]["name"], body["spec"]
        if body["kind"] == "Deployment":
            spec = spec["template"]["spec"]
        main = spec["containers"][0] if "containers" in spec else spec
        secret = self.resources.get(("Secret", name), {}).get("stringData", {})
        variables = {entry["name"]: entry["value"] for entry in main["env"]}
        return [*main.get("command", ()), *main.get("args", ())], secret | variables

    async def _read(self, request: web.Request) -> web.Response:
        kind, name = KINDS[request.match_info["plural"]], request.match_info["name"]
        if (kind, name) not in self.resources:
            return _refuse(404, f"{kind} {name} not found")
        return web.json_response(self.resources[kind, name])

    async def _delete(self, request: web.Request) -> web.Response:
        kind, name = KINDS[request.match_info["plural"]], request.match_info["name"]
        if self.resources.pop((kind, name), None) is None:
            return _refuse(404, f"{kind} {name} not found")
        if kind in WITH_PODS:
            for pod in [pod for pod in self.pods if pod.labels["app"] == name]:
                pod.ended.set()
                self.pods.remove(pod)
                if pod.process is not None:
                    await pod.process.stop()
        return web.json_response({"kind": "Status", "status": "Success"})

    async def _list_pods(self, request: web.Request) -> web.Response:
        name = request.query["labelSelector"].removeprefix("app=")
        found = [pod.json() for pod in self.pods if pod.labels["app"] == name]
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found})

    async def _log(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        pod = next((pod for pod in self.pods if pod.name == name), None)
        if pod is None:
            return _refuse(404, f'pods "{name}" not found')
        if "waiting" in pod.container["state"]:
            return _refuse(400, "container is waiting to start: ContainerCreating")
        assert request.query["follow"] in ("true", "True")
        response = web.StreamResponse()
        await response.prepare(request)
        for line in pod.lines:
            await response.write(line.encode() + b"\n")
        if pod.process is None:
            await pod.ended.wait()
            return response
        sent = 0
        while not pod.process.ended.is_set() or sent < len(pod.process.lines):
            for line in pod.process.lines[sent:]:
                await response.write(line.encode() + b"\n")
                sent += 1
            await asyncio.sleep(0.02)
        return response

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=[CHANNELS])
        await socket.prepare(request)
        port = int(request.query["ports"])
        for channel in (0, 1):
            await socket.send_bytes(bytes([channel]) + port.to_bytes(2, "little"))
        behind = port if self.dialect else self.health_port
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", behind)
        except OSError:
            await socket.close()
            return socket
        answers = asyncio.ensure_future(_send_answers(reader, socket))
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                writer.write(message.data[1:])
        answers.cancel()
        writer.close()
        return socket


async def _send_answers(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    while data := await reader.read(65_536):
        await socket.send_bytes(b"\x00" + data)


def _refuse(status: int, text: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": text, "code": status}
    return web.json_response(body, status=status)
