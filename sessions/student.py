"""Student's t: how wide an interval must be that rests on few independent values."""

from __future__ import annotations

from statistics import NormalDist


def student_t(confidence: float, freedom: float) -> float:
    """Two-sided quantile of Student's t (Abramowitz and Stegun 26.7.5); off by less than 0.1 % from 7 degrees on."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    n = float(freedom)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / n ** (place + 1) for place, term in enumerate(terms))
