"""One request as a row of a table, for tests that change what matters to them; and whether two tables are the same."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from sessions.requests import ABSENT, RequestStatus, RequestTable


def row(**changes: Any) -> dict[str, Any]:
    """One request that went well, with changes."""
    usual: dict[str, Any] = {
        "index": 0,
        "session": ABSENT,
        "turn": 0,
        "scheduled_ns": 1_000,
        "sent_ns": 2_000,
        "first_ns": 5_002_000,
        "last_ns": 9_002_000,
        "end_ns": 9_100_000,
        "isl_tokens": 100,
        "osl_tokens": 3,
        "cached_tokens": 0,
        "status": RequestStatus.OK,
        "http_status": 200,
        "clock": 0,
        "lag_first_us": 12,
        "lag_max_us": 40,
        "doubtful_gaps": 0,
        "reused": 1,
        "error": ABSENT,
        "chunk_us": [5000, 7000, 9000],
        "chunk_tokens": [1, 1, 1],
    }
    return {**usual, **changes}


def assert_same(one: RequestTable, other: RequestTable) -> None:
    for field in fields(RequestTable):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, tuple):
            assert mine == theirs, field.name
        else:
            np.testing.assert_array_equal(mine, theirs, err_msg=field.name)
