"""The study of a session in a database: named after the session, and refused to any other one."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Final

import optuna

from sessions.reader import SessionReader
from tuner.fleet.storage import VARIABLE, BadStorage, SharedStorage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessions.recorder import Recorder
    from tuner.plan import Plan

STORAGE: Final = "storage"
"""Key in the session's meta: where the study is, without secrets."""

_SESSION: Final = "session"


def open_shared_study(recorder: Recorder, plan: Plan, environment: Mapping[str, str]) -> SharedStorage | None:
    """The database that the environment names; None when the study stays in the session file.

    Args:
        recorder: The session.
        plan: May name the study.
        environment: Holds the address, secrets included.

    Raises:
        BadStorage: If it cannot be used, the study belongs to another session, or the session's study is elsewhere.
        StorageGone: If nobody answers.
    """
    with SessionReader(recorder.path) as reader:
        meta = reader.meta()
    before = meta.get(STORAGE)
    address = environment.get(VARIABLE, "")
    if not address:
        if isinstance(before, dict):
            raise BadStorage(
                f"the study of this session is in {before.get('address')}: give --storage again (it holds a secret,"
                " and is kept nowhere)"
            )
        return None
    owner = f"{platform.node()} {meta.get('origin_utc_ns')}"
    if isinstance(before, dict):
        owner = str(before.get("owner"))
    study = plan.fleet.study or f"trtune-{meta.get('origin_utc_ns')}"
    shared = SharedStorage.open(address, study)
    try:
        _require_owner(shared, owner)
    except BaseException:
        shared.close()
        raise
    recorder.set_meta({STORAGE: {"address": shared.address, "study": study, "owner": owner}})
    return shared


def _require_owner(shared: SharedStorage, owner: str) -> None:
    """Begin the study for this session, or make sure that it is this session's.

    Raises:
        BadStorage: If another session has it.
    """
    names = {study.study_name for study in optuna.get_all_study_summaries(storage=shared.optuna)}
    marker = f"{shared.study} (owner)"
    if marker in names:
        holder = optuna.load_study(study_name=marker, storage=shared.optuna).user_attrs.get(_SESSION)
        if holder != owner:
            raise BadStorage(
                f"the study {shared.study!r} in {shared.address} belongs to another session ({holder}): resume that one,"
                " or name another study; --warm-start learns from an older session"
            )
        return
    optuna.create_study(study_name=marker, storage=shared.optuna).set_user_attr(_SESSION, owner)
