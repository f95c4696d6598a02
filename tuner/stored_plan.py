"""The plan that a session keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from sessions.errors import SessionError
from tuner.plan import Plan

if TYPE_CHECKING:
    from sessions.reader import SessionReader


def stored_plan(reader: SessionReader) -> Plan:
    """The plan that a session was begun with, or goes on with.

    Raises:
        SessionError: If it has none that this trtune can read.
    """
    told = reader.meta().get("plan")
    if told is None:
        raise SessionError(f"{reader.path}: the session holds no plan")
    try:
        return Plan.model_validate(told)
    except ValidationError as error:
        raise SessionError(
            f"{reader.path}: the session's plan cannot be read ({error.error_count()} faults): was it recorded by another"
            " version of trtune?"
        ) from error
