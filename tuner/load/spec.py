"""What a load is made of: workload, level, stop rule, limits and endpoint.

The pydantic models come from a plan file that a person writes: unknown fields are refused, and every bad value is reported with
its field. All of them are frozen, so that they can be kept beside the results they led to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - pydantic needs it at run time
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from sessions.metrics import METRICS, STATS
from tuner.load.errors import BadWorkload
from tuner.load.lengths import Fixed, Length, Tokens

Share = Annotated[float, Field(ge=0, le=1)]
PathChoice = Literal["chat", "completions", "triton"]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Dataset(_Spec):
    """A file of prompts or of recorded traffic, instead of generated prompts.

    Attributes:
        path: File on this host; nothing is fetched from a hub.
        format: `sharegpt` (JSON list of conversations), `jsonl` (one JSON object a line with `prompt` or `messages`, and
            optionally `output_tokens`), or `mooncake` (one JSON object a line with `timestamp` in ms, `input_length`,
            `output_length`, `hash_ids`).
        block_tokens: Tokens of prompt that one Mooncake hash id stands for.
        shuffle: Whether the order of entries is drawn with the workload's seed; traces keep theirs.
    """

    path: Path
    format: Literal["sharegpt", "jsonl", "mooncake"]
    block_tokens: PositiveInt = 512
    shuffle: bool = False


class Prefix(_Spec):
    """Prompt beginnings that requests have in common, as system prompts do.

    Attributes:
        tokens: Length of each shared beginning; it is part of the ISL, not added to it.
        pool: How many different beginnings there are.
        share_ratio: Share of requests that start with one of them.
    """

    tokens: Tokens
    pool: PositiveInt = 1
    share_ratio: Share = 1.0


class Turns(_Spec):
    """Conversations: several requests in a row, each with all before it as its history.

    Attributes:
        count: Turns of a conversation.
        think_s: Pause between the end of an answer and the next turn, in seconds.
        think_std_s: Standard deviation of that pause (normal, cut at 0).
        history: `planned` puts seeded answers into the history, so that every request is the same byte for byte in every run;
            `server` puts in what the server answered, as a chat program does.
    """

    count: Length = Fixed(tokens=1)
    think_s: NonNegativeFloat = 0.0
    think_std_s: NonNegativeFloat = 0.0
    history: Literal["planned", "server"] = "planned"


class Arrivals(_Spec):
    """When requests of an open-loop level leave.

    Attributes:
        pattern: `constant` spacing, `poisson`, `gamma` (see `burstiness`), or `trace` (the dataset's timestamps, stretched to
            the level's rate).
        burstiness: Shape of the gamma distribution of the gaps: 1 is Poisson, below 1 comes in bursts, above 1 is more even. The
            coefficient of variation of the gaps is 1 / sqrt(burstiness), as in `vllm bench serve`.
        ramp_s: Seconds in which rate or concurrency grows linearly to the level's value.
    """

    pattern: Literal["constant", "poisson", "gamma", "trace"] = "poisson"
    burstiness: PositiveFloat = 1.0
    ramp_s: NonNegativeFloat = 0.0


class Cancel(_Spec):
    """Clients that give up.

    Attributes:
        share_ratio: Share of requests that are cancelled.
        after_min_s: Shortest time from sending to giving up, in seconds.
        after_max_s: Longest such time; drawn uniformly between the two.
    """

    share_ratio: Share = 0.0
    after_min_s: NonNegativeFloat = 0.5
    after_max_s: NonNegativeFloat = 2.0

    @model_validator(mode="after")
    def _ordered(self) -> Cancel:
        if self.after_min_s > self.after_max_s:
            raise ValueError(f"after_min_s {self.after_min_s} is above after_max_s {self.after_max_s}")
        return self


class Workload(_Spec):
    """What is asked of the server, apart from how much at a time.

    One seed gives the same requests, byte for byte (except histories of `turns.history = "server"`).

    Attributes:
        name: Shown with the results.
        isl: Prompt length in tokens (of each turn's new text, in conversations).
        osl: Answer length in tokens, sent as `max_tokens`.
        dataset: Prompts from a file; then `isl` is not used, and `osl` only where an entry has no length.
        prefix: Shared beginnings of generated prompts.
        turns: Conversations.
        arrivals: Arrival process of open-loop levels, and the ramp.
        cancel: Requests given up by the client.
        seed: Seeds every draw.
        ignore_eos: Ask the server to go on to `osl` tokens whatever the model says.
        extra: More fields of every request body, such as `temperature`; they win over trtune's own.
    """

    name: str = "default"
    isl: Length = Fixed(tokens=512)
    osl: Length = Fixed(tokens=128)
    dataset: Dataset | None = None
    prefix: Prefix | None = None
    turns: Turns = Turns()
    arrivals: Arrivals = Arrivals()
    cancel: Cancel = Cancel()
    seed: NonNegativeInt = 0
    ignore_eos: bool = True
    extra: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Workload:
        if self.arrivals.pattern == "trace" and (self.dataset is None or self.dataset.format != "mooncake"):
            raise ValueError("arrivals.pattern 'trace' needs a dataset with format 'mooncake'")
        return self


class StopRule(_Spec):
    """When the measuring window opens, and when it closes.

    Attributes:
        warmup_s: Shortest warm-up, in seconds; not counted.
        warmup_requests: Fewest requests that end before the window opens.
        min_requests: Fewest requests in the window before `precision` may close it.
        max_requests: The window closes with the end of this many requests.
        min_s: Shortest window before `precision` may close it, in seconds.
        max_s: Longest window, in seconds.
        precision: Relative half-width of the 95 % confidence interval of `metric` at which the window closes (0.02 is ±2 %); None
            measures until `max_requests` or `max_s`.
        metric: Metric whose interval is looked at, a name of `sessions.metrics.METRICS`; one that is neither a rate nor a
            latency of requests is judged by the output token throughput.
        stat: Which statistic of it (`avg`, `p50`, `p99`...); `min`, `max`, `std` and `count` have no interval, so that
            precision never closes the window.
    """

    warmup_s: NonNegativeFloat = 0.0
    warmup_requests: NonNegativeInt = 0
    min_requests: PositiveInt = 30
    max_requests: PositiveInt | None = None
    min_s: NonNegativeFloat = 5.0
    max_s: PositiveFloat | None = 60.0
    precision: Annotated[float, Field(gt=0, lt=1)] | None = None
    metric: str = "output_token_throughput"
    stat: str = "avg"

    @model_validator(mode="after")
    def _ends(self) -> StopRule:
        if self.metric not in METRICS:
            raise ValueError(f"metric {self.metric!r} is unknown; there are: {', '.join(METRICS)}")
        if self.stat not in STATS:
            raise ValueError(f"statistic {self.stat!r} is unknown; there are: {', '.join(STATS)}")
        if self.max_requests is None and self.max_s is None:
            raise ValueError("one of max_requests and max_s is needed, or the level would never end")
        if self.max_s is not None and self.min_s > self.max_s:
            raise ValueError(f"min_s {self.min_s} is above max_s {self.max_s}")
        return self


class Limits(_Spec):
    """How long the client waits in each phase of a request, and how much it takes; beyond that the request has failed.

    Attributes:
        connect_timeout_s: Until the connection stands, TLS included.
        first_token_timeout_s: From sending to the first byte of the answer's body.
        idle_timeout_s: Between two reads of an answer.
        total_timeout_s: From sending to the end of the answer.
        drain_timeout_s: How long requests in flight may take to finish after the window has closed; 0 cuts them off.
        max_head_bytes: Longest head of an answer.
        max_body_bytes: Longest body of an answer.
    """

    connect_timeout_s: PositiveFloat = 10.0
    first_token_timeout_s: PositiveFloat = 300.0
    idle_timeout_s: PositiveFloat = 120.0
    total_timeout_s: PositiveFloat = 3600.0
    drain_timeout_s: NonNegativeFloat = 30.0
    max_head_bytes: PositiveInt = 64 * 1024
    max_body_bytes: PositiveInt = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Level:
    """One intensity: so many requests at a time (closed loop), or so many a second (open loop).

    Attributes:
        kind: `concurrency` or `rate`.
        value: Requests (conversations) in flight, or requests (conversations) begun per second.
    """

    kind: Literal["concurrency", "rate"]
    value: float

    def __post_init__(self) -> None:
        whole = self.kind == "rate" or self.value == int(self.value)
        if self.kind not in ("concurrency", "rate") or not 0 < self.value < 1e7 or not whole:
            raise BadWorkload(f"level {self.kind}={self.value} must be a positive number, whole for concurrency")

    def __str__(self) -> str:
        return f"{self.kind} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go, and how the server wants them.

    Attributes:
        url: Base URL (`http://127.0.0.1:8000`, with or without `/v1`), or the full URL of the API path.
        model: Model name sent in every request.
        api: Which API: `chat`, `completions`, or Triton's `generate_stream`.
        token_prompts: Send prompts as token ids (`completions` only), which makes ISL exact.
        vocabulary_size: Token ids are drawn below it.
        tokenizer: Local `tokenizer.json` or a folder with one; makes the ISL of text prompts exact. Never fetched.
        headers: More HTTP headers, such as `Authorization`; never logged and not part of the repr.
        extra_body: More fields of every request body that this server needs.
        continuous_usage: Ask for `usage` on every chunk, which gives exact tokens per chunk.
        reuse_connections: Keep connections between requests; None finds out by itself.
        max_tokens_field: What the server calls the length limit.
        ca_file: CA bundle for `https`; the system's else.
        verify_tls: False accepts any certificate.
    """

    url: str
    model: str = ""
    api: PathChoice = "completions"
    token_prompts: bool = False
    vocabulary_size: int = 32_000
    tokenizer: str | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    extra_body: dict[str, Any] = field(default_factory=dict)
    continuous_usage: bool = False
    reuse_connections: bool | None = None
    max_tokens_field: str = "max_tokens"
    ca_file: str | None = None
    verify_tls: bool = True
