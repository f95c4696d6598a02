"""Which configurations must pass the quality gate, and what it has found so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sessions.reader import SessionReader
from sessions.records import REFERENCE
from tuner.quality.checking import QualityQuestion, Reference
from tuner.quality.prompts import digest_of, prompt_set
from tuner.search.problem import Meaning, meaning_of
from tuner.variants import knobs_of, wishes_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.knob import Value
    from sessions.records import Params
    from tuner.bench import Bench
    from tuner.goals import QualityPlan
    from tuner.quality.checking import GateAnswer

META: Final = "quality"
META_REFERENCE: Final = "quality_reference"

_ALTERING: Final = (Meaning.WEIGHT_PRECISION, Meaning.KV_PRECISION)
_ALTERING_NAMES: Final = ("cache-type-k", "cache-type-v")
"""llama.cpp's names for the type of the KV cache."""


def alters_model(knob: str) -> bool:
    """Whether a knob changes what the model answers: a checkpoint, a quantisation, the type of the KV cache."""
    return meaning_of(knob) in _ALTERING or knob in _ALTERING_NAMES


class QualityGate:
    """Holds altered models against the unaltered one."""

    def __init__(self, bench: Bench) -> None:
        """Take up what the session knows already.

        Raises:
            BadPlan: If the plan's prompts cannot be read.
        """
        self._bench = bench
        self._prompts = prompt_set(self._plan.prompts)
        self._unavailable = ""
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

    def recording(self) -> QualityQuestion:
        """A gate that lets everything pass and records the reference."""
        return QualityQuestion(self._prompts)

    def gate_for(self, kind: str, params: Mapping[str, Value]) -> QualityQuestion | None:
        """What to ask of a trial's server before it is measured; None when nothing is to be asked."""
        if self._plan.mode == "never" or self._unavailable:
            return None
        if self._must_pass(params) and self._reference is not None:
            return QualityQuestion(self._prompts, self._reference, self.altered(params))
        if self._reference is None and kind != REFERENCE and not self.altered(params) and self._may_be_needed():
            return self.recording()
        return None

    def take(self, number: int, answer: GateAnswer) -> None:
        """Keep what was found at a trial's server, in the session too.

        Args:
            number: The trial.
            answer: What was found.
        """
        recorder = self._bench.recorder
        if answer.verdict is not None:
            self._verdicts[str(number)] = dict(answer.verdict)
            recorder.set_meta({META: self._verdicts})
        if self._reference is not None or self._unavailable:
            return
        if answer.unavailable:
            self.give_up(number, answer.unavailable)
        elif answer.reference is not None:
            self._reference = answer.reference
            recorder.set_meta({META_REFERENCE: self._reference.facts()})
            told = f"{self._reference.way.label}); asked again it agrees to {self._reference.own_agreement:.1%}"
            recorder.log("worker", "info", f"the unaltered model's answers are recorded ({told}")

    def give_up(self, number: int, why: str) -> None:
        """Check nothing any more, and say so.

        Args:
            number: The trial that was to record the reference.
            why: Why it could not.
        """
        if self._reference is None and not self._unavailable:
            self._unavailable = why
            self._bench.recorder.event("warning", f"no quality gate: {why}", trial=number)

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
