"""Asks a NIM's image for its profiles, so that those this host can run are searched like any other setting."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from engines.errors import EngineError
from engines.launch.ports import free_port
from engines.nim import ENGINE, PROFILE, parse_profiles, runnable
from tuner.server import Places, launch_request, launcher_for

if TYPE_CHECKING:
    from engines.launch.base import Finished
    from engines.nim import NimProfile
    from tuner.plan import Plan

WISH = "runnable"
"""Value of the knob in a plan that stands for every profile that this host can run."""

LISTING_LIMIT_S = 600.0


def with_profiles(plan: Plan) -> tuple[Plan, tuple[NimProfile, ...]]:
    """The plan with the profiles in the place of the wish for them, and what is known of each.

    A plan without that wish comes back as it is. Takes as long as the image needs to start.

    Raises:
        EngineError: If the image does not tell its profiles, or none of them can be run here.
    """
    if plan.engine.name != ENGINE.name or plan.knobs.get(PROFILE) != WISH:
        return plan, ()
    print("asking the image for its profiles ...", file=sys.stderr)  # noqa: T201
    finished = asyncio.run(_listing(plan))
    found = runnable(parse_profiles(finished.lines))
    if not found:
        last = next((line.strip() for line in reversed(finished.lines) if line.strip()), "nothing")
        why = finished.failure.text if finished.failure else f"the image said: {last}"
        raise EngineError(f"knobs.{PROFILE} = {WISH!r}: no profile can be run here; {why}")
    choices = (None, *(profile.id for profile in found))
    return plan.model_copy(update={"knobs": {**plan.knobs, PROFILE: choices}}), found


async def _listing(plan: Plan) -> Finished:
    with tempfile.TemporaryDirectory(prefix="trtune-") as folder:
        places = Places(Path(folder), free_port("127.0.0.1"))
        spec = ENGINE.list_profiles(launch_request(plan.engine, ENGINE, {}, places, 0))
        return await launcher_for(plan.engine).run_to_end(spec, LISTING_LIMIT_S)
