"""What holds for every test: hypothesis judges values, not how fast a busy machine finds them."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("trtune", deadline=None)
settings.load_profile("trtune")
