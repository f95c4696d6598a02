"""What can go wrong with GPU telemetry."""

from __future__ import annotations

from engines.errors import EngineError


class GpuUnavailable(EngineError):
    """No GPU can be watched this way; the text says why and what to do, fit for a panel."""
