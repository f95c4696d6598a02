"""Looks at this host for the wizard: servers that answer, GPUs, models on disk, engines that can be started."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import psutil

from engines.errors import EngineError, MissingProgram
from engines.gpu import NoGpu, open_gpu_source
from engines.launch._docker_api import connect, daemon_host
from engines.registry import engine_names, get_engine
from trtune.detect import detect_engine
from tui.front_door import Findings, FoundEngine, FoundServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COMMON_PORTS = (8000, 8001, 8080, 8081, 8888, 9000, 3000, 4000, 5000, 11434, 23333, 30000)
"""Where inference servers listen when nobody says otherwise."""

SERVER_WORDS = (
    "trtllm-serve",
    "tensorrt_llm",
    "vllm",
    "sglang",
    "tritonserver",
    "llama-server",
    "llama_cpp",
    "lmdeploy",
    "text-generation",
    "nim",
    "ollama",
    "litellm",
    "engines.simulated",
    "docker-proxy",
)
"""What the command line of an inference server, or of a container's port, holds."""

MAX_PROBES = 48
MAX_MODELS = 40
DAEMON_TIMEOUT_S = 5
ASK_S = 2.0
"""How long one server may take to answer."""


@dataclass(frozen=True, slots=True)
class _Listener:
    """A port of this host on which somebody listens."""

    port: int
    how: str
    likely: bool


def find_here() -> Findings:
    """Everything the wizard can offer; takes a few seconds, asks only this host, and changes nothing."""
    notes: list[str] = []
    listeners = {listener.port: listener for listener in (*_listeners(notes), *_containers(notes))}
    likely = sorted(listeners.values(), key=lambda each: (not each.likely, each.port not in COMMON_PORTS, each.port))
    wanted = [each for each in likely if each.likely or each.port in COMMON_PORTS][:MAX_PROBES]
    servers = asyncio.run(_ask_all(wanted))
    return Findings(tuple(servers), tuple(_gpus()), tuple(_models()), tuple(_engines()), tuple(notes))


def _listeners(notes: list[str]) -> Iterable[_Listener]:
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError) as error:
        notes.append(f"listening ports: {error}")
        return [_Listener(port, f"port {port}", likely=False) for port in COMMON_PORTS]
    found = {}
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr:
            words = _command(connection.pid)
            known = next((word for word in SERVER_WORDS if word in words), "")
            how = f"process {connection.pid}, {known}" if known else f"port {connection.laddr.port}"
            found[connection.laddr.port] = _Listener(connection.laddr.port, how, bool(known))
    return found.values()


def _command(pid: int | None) -> str:
    if pid is None:
        return ""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def _containers(notes: list[str]) -> Iterable[_Listener]:
    """Published ports of this host's running containers; without Docker's library or its socket there is nothing to say."""
    if not (os.environ.get("DOCKER_HOST") or Path("/var/run/docker.sock").exists()) or daemon_host() is not None:
        return []
    try:
        containers = connect(DAEMON_TIMEOUT_S).containers()
    except MissingProgram:
        return []
    except Exception as error:  # noqa: BLE001 - docker, requests and urllib3 each raise their own
        notes.append(f"containers: {error}")
        return []
    return [
        _Listener(
            int(mapped["PublicPort"]), f"container {_name(container)}, {container.get('Image', '?')}", likely=True
        )
        for container in containers
        for mapped in container.get("Ports") or ()
        if mapped.get("PublicPort") and mapped.get("Type") == "tcp"
    ]


def _name(container: Mapping[str, Any]) -> str:
    """A container's name as Docker lists it, or the beginning of its id."""
    return next(iter(container.get("Names") or ()), str(container.get("Id", "?"))[:12]).lstrip("/")


async def _ask_all(listeners: list[_Listener]) -> list[FoundServer]:
    answers = await asyncio.gather(*(_ask(listener) for listener in listeners))
    return [answer for answer in answers if answer is not None]


async def _ask(listener: _Listener) -> FoundServer | None:
    """The server on a port, or None if no inference server answers there in time."""
    url = f"http://127.0.0.1:{listener.port}"
    try:
        async with asyncio.timeout(ASK_S):
            model = await _model(url)
            if model is None:
                return None
            name = await detect_engine(url)
        return FoundServer(url, name, get_engine(name).title, model, listener.how)
    except (EngineError, TimeoutError, aiohttp.ClientError):
        return None


async def _model(url: str) -> str | None:
    """The first model a server lists; None when it lists none."""
    timeout = aiohttp.ClientTimeout(total=ASK_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.get(f"{url}/v1/models", allow_redirects=False) as answer,
    ):
        try:
            told: Any = await answer.json(content_type=None, loads=orjson.loads)
        except ValueError:
            return None
    cards = told.get("data") if isinstance(told, dict) else None
    if not isinstance(cards, list):
        return None
    return next((str(card.get("id", "")) for card in cards if isinstance(card, dict)), "")


def _gpus() -> list[str]:
    source = open_gpu_source(None, True)
    if isinstance(source, NoGpu):
        return []
    try:
        return [gpu.label for gpu in source.gpus]
    finally:
        source.close()


def _engines() -> list[FoundEngine]:
    found = []
    for name in engine_names():
        engine = get_engine(name)
        ready, advice = engine.available()
        found.append(FoundEngine(name, engine.title, ready and name != "openai", advice))
    return sorted(found, key=lambda each: not each.ready)


def _models(environ: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """Models in Hugging Face's cache, and folders and GGUF files in the usual places."""
    environ = os.environ if environ is None else environ
    found: dict[str, str] = {}
    home = Path(environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    for folder in _children(Path(environ.get("HF_HUB_CACHE", home / "hub"))):
        if folder.name.startswith("models--") and (folder / "snapshots").is_dir():
            found[folder.name.removeprefix("models--").replace("--", "/")] = "Hugging Face's cache"
    for place in (Path.cwd(), Path("/models"), Path("~/models").expanduser()):
        for child in _children(place):
            if child.suffix == ".gguf":
                found[str(child)] = "GGUF file"
            elif (child / "config.json").is_file() and any(child.glob("*.safetensors")):
                found[str(child)] = "folder"
    return list(found.items())[:MAX_MODELS]


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
