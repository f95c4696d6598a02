"""Which configurations must pass the quality gate, the reference they are held against, and the verdict."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from engines.errors import EngineError
from engines.failure import Failure
from sessions.reader import SessionReader
from sessions.records import REFERENCE
from tuner.quality.answers import TRITON_WAYS, WAYS, Answer, Asker, Way
from tuner.quality.comparing import Comparison, compare
from tuner.quality.prompts import digest_of, prompt_set
from tuner.quality.tasks import TaskError, run_tasks
from tuner.rescoring import QUALITY
from tuner.search.problem import Meaning, meaning_of
from tuner.server import auth_headers
from tuner.side_by_side import side_by_side
from tuner.variants import knobs_of, wishes_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from engines.base import ServerInfo
    from engines.knob import Value
    from engines.launch.base import RunningServer
    from sessions.records import Params
    from tuner.bench import Bench
    from tuner.goals import QualityPlan
    from tuner.trial import Gate

T = TypeVar("T")

AT_ONCE: Final = 4
"""Prompts asked at a time."""

LIMIT_S: Final = 600.0
"""For a whole check."""

META: Final = "quality"
META_REFERENCE: Final = "quality_reference"

_ALTERING: Final = (Meaning.WEIGHT_PRECISION, Meaning.KV_PRECISION)
_ALTERING_NAMES: Final = ("cache-type-k", "cache-type-v")
"""llama.cpp's names for the type of the KV cache."""


def alters_model(knob: str) -> bool:
    """Whether a knob changes what the model answers: a checkpoint, a quantisation, the type of the KV cache."""
    return meaning_of(knob) in _ALTERING or knob in _ALTERING_NAMES


@dataclass(frozen=True, slots=True)
class Reference:
    """What the unaltered model answers.

    Attributes:
        digest: Which prompts it was asked.
        way: How it was asked; variants are asked in the same way.
        answers: An answer to each prompt.
        own_agreement: How far it agrees with itself when it is asked again: servers are not exactly repeatable.
        tasks: Score of each task of lm-eval, where the plan names some.
    """

    digest: str
    way: Way
    answers: tuple[Answer, ...]
    own_agreement: float
    tasks: Mapping[str, float]

    def facts(self) -> dict[str, Any]:
        """The same for the session's meta."""
        return {
            "digest": self.digest,
            "way": [self.way.endpoint, self.way.logprobs],
            "answers": [[list(each.pieces), list(each.logprobs)] for each in self.answers],
            "own_agreement": self.own_agreement,
            "tasks": dict(self.tasks),
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Reference:
        """From the session's meta."""
        endpoint, logprobs = facts["way"]
        answers = tuple(Answer(tuple(pieces), tuple(known)) for pieces, known in facts["answers"])
        return cls(facts["digest"], Way(endpoint, logprobs), answers, facts["own_agreement"], facts.get("tasks", {}))


class QualityGate:
    """Holds altered models against the unaltered one."""

    def __init__(self, bench: Bench) -> None:
        """Take up what the session knows already.

        Raises:
            BadPlan: If the plan's prompts cannot be read.
        """
        self._bench = bench
        self._prompts = prompt_set(self._plan.prompts)
        # What is asked of a server on another host cannot be answered here.
        self._unavailable = "trials run on a cluster" if bench.plan.fleet.cluster else ""
        with SessionReader(bench.recorder.path) as reader:
            meta = reader.meta()
        known = meta.get(META_REFERENCE) or {}
        self._reference = Reference.from_facts(known) if known.get("digest") == digest_of(self._prompts) else None
        self._verdicts: dict[str, Any] = dict(meta.get(META) or {})

    @property
    def _plan(self) -> QualityPlan:
        return self._bench.plan.quality

    def reference_params(self) -> Params:
        """The configuration of the unaltered model: the baseline with the plan's reference values."""
        plan = self._bench.plan
        fixed = {name: value for name, value in plan.knobs.items() if isinstance(value, bool | int | float | str)}
        held = {name: value for name, value in fixed.items() if not alters_model(name)}
        params = {**held, **plan.baseline, **self._plan.reference}
        return {name: value for name, value in params.items() if value is not None}

    def altered(self, params: Mapping[str, Value]) -> tuple[str, ...]:
        """Knobs by which a configuration alters the model."""
        reference, plan = self.reference_params(), self._bench.plan
        return tuple(
            knob.name
            for knob in knobs_of(plan.engine, self._bench.engine)
            if alters_model(knob.name) and params.get(knob.name, knob.default) != reference.get(knob.name, knob.default)
        )

    def needs_reference(self, params: Mapping[str, Value]) -> bool:
        """Whether a configuration must be checked and there is nothing yet to hold it against."""
        return self._must_pass(params) and self._reference is None and not self._unavailable

    def recorder(self) -> Gate:
        """A gate that lets everything pass and records the reference."""
        return self._record

    def gate_for(self, kind: str, params: Mapping[str, Value]) -> Gate | None:
        """What to ask of a trial's server before it is measured; None when nothing is to be asked."""
        if self._plan.mode == "never" or self._unavailable:
            return None
        if self._must_pass(params) and self._reference is not None:
            accused = self.altered(params)
            return lambda number, server, info: self._check(number, accused, server, info)
        if self._reference is None and kind != REFERENCE and not self.altered(params) and self._may_be_needed():
            return self._record
        return None

    def passed(self, number: int) -> bool | None:
        """What the gate said of a trial; None when it was not asked."""
        told = self._verdicts.get(str(number))
        return None if told is None else bool(told["passed"])

    def _must_pass(self, params: Mapping[str, Value]) -> bool:
        if self._plan.mode == "never":
            return False
        return self._plan.mode == "always" or bool(self.altered(params))

    def _may_be_needed(self) -> bool:
        """Whether any configuration of the plan alters the model."""
        plan = self._bench.plan
        knobs = wishes_of(plan) or {
            knob.name: None for knob in knobs_of(plan.engine, self._bench.engine) if knob.searched
        }
        return self._plan.mode == "always" or any(alters_model(name) for name in knobs)

    async def _record(self, number: int, server: RunningServer, info: ServerInfo) -> Failure | None:
        recorder = self._bench.recorder
        recorder.start_phase(number, "quality")
        asker = self._asker(server, info)
        try:
            async with asyncio.timeout(LIMIT_S):
                first = await self._answers(asker)
                own = await self._compared(first, asker)
                tasks = await run_tasks(self._plan.tasks, server.url, asker.model)
        except (EngineError, TimeoutError, TaskError) as error:
            self._unavailable = str(error) or f"the unaltered model did not answer within {LIMIT_S:g} s"
            recorder.event("warning", f"no quality gate: {self._unavailable}", trial=number)
            return None
        assert asker.way is not None
        self._reference = Reference(digest_of(self._prompts), asker.way, first, own.agreement, tasks)
        recorder.set_meta({META_REFERENCE: self._reference.facts()})
        text = f"the unaltered model's answers are recorded ({asker.way.label}); asked again it agrees to {own.agreement:.1%}"
        recorder.log("worker", "info", text)
        return None

    async def _check(
        self, number: int, accused: tuple[str, ...], server: RunningServer, info: ServerInfo
    ) -> Failure | None:
        reference, plan = self._reference, self._plan
        assert reference is not None
        self._bench.recorder.start_phase(number, "quality")
        asker = self._asker(server, info, reference.way)
        try:
            async with asyncio.timeout(LIMIT_S):
                found = await self._compared(reference.answers, asker)
                tasks = await run_tasks(plan.tasks, server.url, asker.model)
        except TimeoutError:
            return Failure("hung", f"the quality check did not end within {LIMIT_S:g} s")
        except TaskError as error:
            return Failure("failed", str(error), infeasible=False)
        lost = {name: reference.tasks[name] - score for name, score in tasks.items() if name in reference.tasks}
        told = verdict_on(found, lost, reference, plan)
        self._verdicts[str(number)] = told
        self._bench.recorder.set_meta({META: self._verdicts})
        return None if told["passed"] else Failure(QUALITY, told["text"], accuses=accused)

    async def _answers(self, asker: Asker) -> tuple[Answer, ...]:
        first = await asker.ask(self._prompts[0], self._plan.tokens)  # finds out how to ask
        rest = await self._all([partial(asker.ask, prompt, self._plan.tokens) for prompt in self._prompts[1:]])
        return (first, *rest)

    async def _compared(self, reference: tuple[Answer, ...], asker: Asker) -> Comparison:
        async def one(prompt: str, expected: Answer) -> Comparison:
            answer = await asker.ask(prompt, self._plan.tokens)
            return await compare(prompt, expected, answer, go_on if asker.way and asker.way.can_go_on else None)

        async def go_on(text: str, tokens: int) -> Answer:
            exact = asker.way is not None and asker.way.logprobs
            return await asker.ask(text, tokens if exact else self._plan.tokens)

        pairs = zip(self._prompts, reference, strict=True)
        return Comparison.sum_of(await self._all([partial(one, prompt, expected) for prompt, expected in pairs]))

    async def _all(self, questions: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
        """Ask some at a time; the first failure ends it."""
        turn = asyncio.Semaphore(AT_ONCE)

        async def in_turn(question: Callable[[], Awaitable[T]]) -> T:
            async with turn:
                return await question()

        return await side_by_side(in_turn(question) for question in questions)

    def _asker(self, server: RunningServer, info: ServerInfo, way: Way | None = None) -> Asker:
        plan, engine = self._bench.plan.engine, self._bench.engine
        return Asker(
            self._bench.http,
            server.url,
            info.model or plan.model,
            auth_headers(plan),
            way,
            TRITON_WAYS if engine.request_api == "triton" else WAYS,
            engine.max_tokens_field,
        )


def verdict_on(found: Comparison, lost: Mapping[str, float], reference: Reference, plan: QualityPlan) -> dict[str, Any]:
    """The verdict on a variant as the session keeps it.

    Args:
        found: Its answers against the reference's.
        lost: By how much it is worse in each task.
        reference: What it is held against.
        plan: The thresholds.
    """
    divergence = found.divergence
    told = [f"{found.agreement:.1%} of {found.compared} tokens as the unaltered model (at least {plan.agreement:.0%})"]
    passed = found.agreement >= plan.agreement
    if divergence is None:
        told.append("log-probabilities are not told by the server")
    else:
        told.append(f"log-probabilities {divergence:.3f} nats apart (at most {plan.divergence:g})")
        passed = passed and divergence <= plan.divergence
    for name, loss in lost.items():
        told.append(f"{name} {-loss:+.3f} (at most {plan.task_loss:g} worse)")
        passed = passed and loss <= plan.task_loss
    told.append(f"the unaltered model agrees with itself to {reference.own_agreement:.1%}")
    return {
        "passed": passed,
        "agreement": found.agreement,
        "divergence": divergence,
        "threshold": {"agreement": plan.agreement, "divergence": plan.divergence, "task_loss": plan.task_loss},
        "tasks": {name: -loss for name, loss in lost.items()},
        "text": f"{'passed' if passed else 'failed'}: {'; '.join(told)}",
    }
