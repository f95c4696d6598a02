"""llama.cpp's HTTP server (`llama-server`), also from the wheel `xllamacpp`: the real engine that needs no GPU.

Endpoints and log lines as recorded from llama.cpp of the wheel xllamacpp 2026.10.11549; it closes the connection after
each streamed answer though it announces keep-alive.
"""

from __future__ import annotations

import importlib.util
import math
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from engines._http import get, get_json_or_none
from engines._knobs import check_params, plain
from engines._llamacpp_tables import DEFAULT_BATCH_TOKENS, DEFAULT_SLOTS, FAILURES, KNOBS, QUANTISED_CACHE_TYPES
from engines._models_page import cards_of, first_of
from engines._prometheus import parse_page
from engines.base import Engine, ServerInfo
from engines.errors import EngineError
from engines.launch.ports import local_url
from engines.launch.spec import LaunchSpec
from engines.sample import NAN, EngineSample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import aiohttp

    from engines.knob import Knob, Value
    from engines.launch.spec import LaunchRequest
    from engines.sample import MetricsSource

_SLOTS_LINE = re.compile(r"n_slots = (\d{1,9}), n_ctx_slot = (\d{1,15}), kv_unified = '(true|false)'")
_THREADS_LINE = re.compile(r"threadpool init, n_threads = (\d{1,9})")


class LlamaCpp(Engine):
    """llama.cpp's server. Token arrays are taken as prompts; usage comes once, with the last chunk of a stream."""

    name: ClassVar[str] = "llamacpp"
    title: ClassVar[str] = "llama.cpp"
    program: ClassVar[str] = "llama-server"
    install: ClassVar[str] = "pip install 'trtune[llamacpp]'"
    needs_gpu: ClassVar[bool] = False

    def knobs(self, version: str = "") -> tuple[Knob, ...]:
        """The knobs; the same for all versions known."""
        return KNOBS

    def launch(self, request: LaunchRequest) -> LaunchSpec:
        """The command line; there are no files.

        The number of slots is always given, since llama-server and the wheel's server differ in its default.

        Raises:
            BadConfiguration: If a setting is unknown or out of its domain.
        """
        check_params(self.title, KNOBS, request.params)
        settings: dict[str, Value] = {"parallel": DEFAULT_SLOTS, **request.params}
        words = [*(request.command or _program()), "--model", request.model, "--alias", Path(request.model).stem]
        words += ["--host", request.host, "--port", str(request.port), "--metrics"]
        for knob in KNOBS:
            words += _flag(knob, settings.get(knob.name))
        return LaunchSpec(
            argv=(*words, *request.arguments),
            url=local_url(request.host, request.port),
            ready_path=self.health_path,
            # Without it a failed check starts a debugger for a backtrace, which takes longer than the trial.
            environment={"GGML_NO_BACKTRACE": "1", **request.environment},
            failures=FAILURES,
        )

    def metrics(self, http: aiohttp.ClientSession, url: str) -> MetricsSource:
        """Reads `/metrics` and, once, `/props`."""
        return LlamaCppMetrics(http, url)

    async def inspect(self, http: aiohttp.ClientSession, url: str) -> ServerInfo:
        """Build, model, slots and context, from `/v1/models` and `/props`.

        Raises:
            Unreachable: If nobody answers.
            EngineError: If it is no llama.cpp server.
        """
        models = (await get(http, f"{url}/v1/models")).json()
        props = await get_json_or_none(http, f"{url}/props")
        if not isinstance(props, dict) or not isinstance(models, dict):
            raise EngineError(f"{url} is not a llama.cpp server: it has no /props")
        slots = _whole(props.get("total_slots"))
        context = _context_tokens(props)
        effective: dict[str, Value] = {}
        if slots is not None:
            effective["parallel"] = slots
        if context is not None:
            effective["ctx-size"] = context * (slots or 1)
        notes = () if props.get("endpoint_metrics") else ("no metrics: the server was started without --metrics",)
        build = str(props.get("build_info", ""))
        card = first_of(cards_of(models))
        return ServerInfo(build, str(card.get("id", "")), effective, notes, _vocabulary_size(card))

    def available(self) -> tuple[bool, str]:
        """Whether `llama-server` or the wheel is here."""
        if found := shutil.which(self.program):
            return True, f"{self.program} is at {found}"
        if importlib.util.find_spec("xllamacpp"):
            return True, "llama.cpp's server from the package xllamacpp"
        return False, f"{self.program} is not on the PATH; or run: pip install 'trtune[llamacpp]'"

    def starting_points(self, concurrency: float) -> tuple[dict[str, Value], ...]:
        """As many slots as requests, up to 32; also with one thread: threads of a busy host wait for each other."""
        slots = min(32, 1 << max(0, math.ceil(math.log2(max(1.0, concurrency)))))
        return ({"parallel": slots}, {"parallel": slots, "threads": 1}, {"parallel": min(8, slots), "threads": 1})

    def effective_from_log(self, lines: Sequence[str]) -> dict[str, Value]:
        """Slots, context, unified cache and threads as the server prints them at its start."""
        effective: dict[str, Value] = {}
        for line in lines:
            if match := _SLOTS_LINE.search(line):
                slots, context, unified = int(match[1]), int(match[2]), match[3] == "true"
                effective |= {"parallel": slots, "kv-unified": unified}
                effective["ctx-size"] = context if unified else context * slots
            elif match := _THREADS_LINE.search(line):
                effective["threads"] = int(match[1])
        return effective

    def conflicts(self, params: Mapping[str, Value]) -> str | None:
        """What llama.cpp refuses or aborts on."""
        slots = _whole(params.get("parallel")) or DEFAULT_SLOTS
        batch = _whole(params.get("batch-size")) or DEFAULT_BATCH_TOKENS
        if batch < slots:
            return f"batch-size {batch} is smaller than parallel {slots}: each slot adds a token to the batch"
        if params.get("cache-type-v") in QUANTISED_CACHE_TYPES and params.get("flash-attn") == "off":
            return f"cache-type-v {params['cache-type-v']} needs flash-attn on"
        ubatch = _whole(params.get("ubatch-size"))
        if ubatch is not None and ubatch > batch:
            return f"ubatch-size {ubatch} is larger than batch-size {batch}: it would have no effect"
        return None


class LlamaCppMetrics:
    """The `/metrics` page as engine samples."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._slots = NAN
        self._capacity_tokens = NAN
        self._asked = False

    async def poll(self) -> tuple[tuple[int, EngineSample], ...]:
        """One sample of now.

        Raises:
            Unreachable: If nobody answers.
            EngineError: If there is no metrics page.
        """
        if not self._asked:
            await self._ask_props()
        answer = await get(self._http, f"{self._url}/metrics")
        now_ns = time.monotonic_ns()
        if answer.status != 200:
            raise EngineError(f"{answer.url} answers {answer.status}; start llama-server with --metrics")
        page = parse_page(answer.text(), answer.url)
        computed = page.total("llamacpp:prompt_tokens_total")
        cached = page.total("llamacpp:prompt_tokens_cached_total")  # builds of 2025 do not tell it
        sample = EngineSample(
            running=page.total("llamacpp:requests_processing"),
            waiting=page.total("llamacpp:requests_deferred"),
            max_batch_size=self._slots,
            kv_capacity_tokens=self._capacity_tokens,
            kv_hit_ratio=cached / (cached + computed) if cached + computed > 0 else NAN,
            prompt_tokens_total=computed if math.isnan(cached) else computed + cached,
            output_tokens_total=page.total("llamacpp:tokens_predicted_total"),
            iterations_total=page.total("llamacpp:n_decode_total"),
        )
        return ((now_ns, sample),)

    async def _ask_props(self) -> None:
        """Slots and context do not change while the server runs."""
        props = await get_json_or_none(self._http, f"{self._url}/props")
        self._asked = True
        if isinstance(props, dict):
            self._slots = float(_whole(props.get("total_slots")) or NAN)
            self._capacity_tokens = self._slots * float(_context_tokens(props) or NAN)


def _program() -> tuple[str, ...]:
    """`llama-server` where it is installed, else the server from the wheel."""
    if shutil.which(LlamaCpp.program):
        return (LlamaCpp.program,)
    return (sys.executable, "-m", "engines.llamacpp_server")


def _flag(knob: Knob, value: Value) -> list[str]:
    """A setting as command-line words; None leaves it to the server."""
    if value is None:
        return []
    if knob.kind == "bool":
        return [f"--{knob.name}" if value else f"--no-{knob.name}"]
    return [f"--{knob.name}", str(plain(knob, value))]


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**53:
        return None
    return int(value)


def _context_tokens(props: Mapping[str, Any]) -> int | None:
    """Context of one slot."""
    settings = props.get("default_generation_settings")
    return _whole(settings.get("n_ctx")) if isinstance(settings, dict) else None


def _vocabulary_size(card: Mapping[str, Any]) -> int:
    meta = card.get("meta")
    return (_whole(meta.get("n_vocab")) or 0) if isinstance(meta, dict) else 0


ENGINE = LlamaCpp()
"""What `engines.registry` finds."""
