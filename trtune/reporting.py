"""Gathers a report: what the session holds, and what only engines and search can add to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.errors import EngineError
from sessions.errors import SessionError
from sessions.report.facts import gather
from sessions.summary import summarise_session
from trtune.errors import UsageError
from trtune.exports.formats import FORMS
from trtune.exports.winner import Wishes
from tuner.diagnosing import diagnose_trial
from tuner.explaining import deciding_level
from tuner.stored_plan import stored_plan

if TYPE_CHECKING:
    from sessions.reader import SessionReader
    from sessions.report.facts import Facts

READY_TO_COPY = {
    "Configuration file": "config",
    "Command": "command",
    "Variables": "env",
    "Docker": "docker",
    "Docker Compose": "compose",
    "Kubernetes": "kubernetes",
    "NIM Operator": "nimservice",
    "Triton config.pbtxt": "config-pbtxt",
    "Triton model settings": "model-yaml",
    "The same load with AIPerf": "aiperf",
}
"""Headings of the forms of the winner that a report shows; those a session cannot have are left out."""


def gather_facts(reader: SessionReader) -> Facts:
    """What a report of the session tells."""
    exports = {}
    for heading, form in READY_TO_COPY.items():
        try:
            exports[heading] = FORMS[form].make(reader, None, Wishes())
        except (UsageError, SessionError, EngineError):
            continue
    return gather(reader, computed=_diagnoses(reader), exports=exports)


def _diagnoses(reader: SessionReader) -> dict[str, Any]:
    """What limited baseline and winner of a session that was recorded before its worker said so itself."""
    meta = reader.meta()
    if meta.get("kind") != "tune" or meta.get("diagnosis"):
        return {}
    try:
        plan = stored_plan(reader)
    except SessionError:
        return {}
    summary = summarise_session(reader.trials(), meta)
    objective = plan.to_objectives()[0]
    found = {}
    for trial in (summary.baseline, summary.best):
        level = None if trial is None else deciding_level(reader, trial, objective)
        told = None if trial is None or level is None else diagnose_trial(reader, trial, level, objective, trial.params)
        if trial is not None and told is not None:
            found[str(trial.number)] = told
    return {"diagnosis": found} if found else {}


def written(facts: Facts, form: str, *, dark: bool = False) -> bytes:
    """The report in a form: `html`, `md` or `png`.

    Raises:
        UsageError: If what draws pictures is not installed.
    """
    if form == "md":
        from sessions.report.markdown import report_markdown

        return report_markdown(facts).encode()
    if form == "png":
        from sessions.report.picture import MissingRenderer, report_picture

        try:
            return report_picture(facts, dark=dark)
        except MissingRenderer as error:
            raise UsageError(f"{error}: pip install 'trtune[report]'") from error
    from sessions.report.page import report_page

    return report_page(facts).encode()
