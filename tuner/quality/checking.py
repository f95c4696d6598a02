"""What is asked of a running server for the quality gate, on whatever host it runs, and the verdict."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from engines.errors import EngineError
from engines.failure import Failure
from tuner.quality.answers import TRITON_WAYS, WAYS, Answer, Asker, Way
from tuner.quality.comparing import Comparison, compare
from tuner.quality.prompts import digest_of
from tuner.quality.tasks import TaskError, run_tasks
from tuner.rescoring import QUALITY
from tuner.server import why_unwell
from tuner.side_by_side import side_by_side

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from engines.base import ServerInfo
    from engines.launch.base import RunningServer
    from tuner.bench import Bench
    from tuner.goals import QualityPlan

T = TypeVar("T")

AT_ONCE: Final = 4
"""Prompts asked at a time."""

LIMIT_S: Final = 600.0
"""For a whole check."""


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


@dataclass(frozen=True, slots=True)
class GateAnswer:
    """What a gate found at a running server.

    Attributes:
        refusal: Why the trial may not win; it is not measured.
        reference: What the unaltered model answered, where it was asked for that.
        verdict: On an altered model, as the session keeps it.
        unavailable: Why the unaltered model could not be asked.
    """

    refusal: Failure | None = None
    reference: Reference | None = None
    verdict: Mapping[str, Any] | None = None
    unavailable: str = ""


@dataclass(frozen=True, slots=True)
class QualityQuestion:
    """A gate that holds an altered model against the unaltered one, or records that; it can be sent to another host.

    Attributes:
        prompts: What is asked.
        reference: What it is held against; None: the model is the unaltered one, and its answers are recorded.
        accused: Knobs by which the configuration alters the model.
    """

    prompts: tuple[str, ...]
    reference: Reference | None = None
    accused: tuple[str, ...] = ()

    async def __call__(self, bench: Bench, number: int, server: RunningServer, info: ServerInfo) -> GateAnswer:
        """Ask a trial's server before it is measured."""
        bench.recorder.start_phase(number, "quality")
        way = None if self.reference is None else self.reference.way
        asking = _Asking(bench, server, _asker(bench, server, info, way), self.prompts)
        if self.reference is None:
            return await asking.record()
        return await asking.check(self.reference, self.accused)


@dataclass(frozen=True, slots=True)
class _Asking:
    """One server being asked."""

    bench: Bench
    server: RunningServer
    asker: Asker
    prompts: tuple[str, ...]

    @property
    def plan(self) -> QualityPlan:
        return self.bench.plan.quality

    async def record(self) -> GateAnswer:
        """Have an unaltered model answer, twice.

        Raises:
            EngineError: If its server has died meanwhile, or hangs.
        """
        asker = self.asker
        try:
            async with asyncio.timeout(LIMIT_S):
                first = await self._answers()
                own = await self._compared(first)
                tasks = await run_tasks(self.plan.tasks, self.server.url, asker.model)
        except (EngineError, TimeoutError, TaskError) as error:
            if isinstance(error, EngineError) and await why_unwell(self.server, self.bench.http) is not None:
                raise  # it says nothing about the model that its server has died
            return GateAnswer(unavailable=str(error) or f"the unaltered model did not answer within {LIMIT_S:g} s")
        assert asker.way is not None
        return GateAnswer(reference=Reference(digest_of(self.prompts), asker.way, first, own.agreement, tasks))

    async def check(self, reference: Reference, accused: tuple[str, ...]) -> GateAnswer:
        try:
            async with asyncio.timeout(LIMIT_S):
                found = await self._compared(reference.answers)
                tasks = await run_tasks(self.plan.tasks, self.server.url, self.asker.model)
        except TimeoutError:
            return GateAnswer(Failure("hung", f"the quality check did not end within {LIMIT_S:g} s"))
        except TaskError as error:
            return GateAnswer(Failure("failed", str(error), infeasible=False))
        lost = {name: reference.tasks[name] - score for name, score in tasks.items() if name in reference.tasks}
        told = verdict_on(found, lost, reference, self.plan)
        refusal = None if told["passed"] else Failure(QUALITY, told["text"], accuses=accused)
        return GateAnswer(refusal, verdict=told)

    async def _answers(self) -> tuple[Answer, ...]:
        first = await self.asker.ask(self.prompts[0], self.plan.tokens)  # finds out how to ask
        rest = await _some_at_a_time([partial(self.asker.ask, prompt, self.plan.tokens) for prompt in self.prompts[1:]])
        return (first, *rest)

    async def _compared(self, reference: tuple[Answer, ...]) -> Comparison:
        asker = self.asker

        async def one(prompt: str, expected: Answer) -> Comparison:
            answer = await asker.ask(prompt, self.plan.tokens)
            return await compare(prompt, expected, answer, go_on if asker.way and asker.way.can_go_on else None)

        async def go_on(text: str, tokens: int) -> Answer:
            exact = asker.way is not None and asker.way.logprobs
            return await asker.ask(text, tokens if exact else self.plan.tokens)

        pairs = zip(self.prompts, reference, strict=True)
        return Comparison.sum_of(await _some_at_a_time([partial(one, prompt, expected) for prompt, expected in pairs]))


async def _some_at_a_time(questions: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Ask; the first failure ends it."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def in_turn(question: Callable[[], Awaitable[T]]) -> T:
        async with turn:
            return await question()

    return await side_by_side(in_turn(question) for question in questions)


def _asker(bench: Bench, server: RunningServer, info: ServerInfo, way: Way | None) -> Asker:
    plan, engine = bench.plan.engine, bench.engine
    return Asker(
        bench.http,
        server.url,
        info.model or plan.model,
        way,
        ways=TRITON_WAYS if engine.request_api == "triton" else WAYS,
        max_tokens_field=engine.max_tokens_field,
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
