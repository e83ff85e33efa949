"""Ranges of times, for people."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from trainers.countdown import duration


@dataclass(frozen=True)
class Range:
    """Seconds: at least, most likely, at most."""

    lo: float
    mid: float
    hi: float

    @classmethod
    def of(cls, values: Sequence[float], least: float, stretch: tuple[float, float] = (1.0, 1.0)) -> Range:
        """Around the median of ``values``: from their 10th to their 90th percentile, and ``least`` (relative) to either
        side at the least. ``stretch`` factors move the ends further apart."""
        ordered = sorted(values)
        middle = statistics.median(ordered)
        tenth = len(ordered) // 10
        low, high = ordered[tenth], ordered[len(ordered) - 1 - tenth]
        return cls(min(low, middle * (1 - least)) * stretch[0], middle, max(high, middle * (1 + least)) * stretch[1])

    def __add__(self, other: Range) -> Range:
        return Range(self.lo + other.lo, self.mid + other.mid, self.hi + other.hi)

    def __mul__(self, factor: float) -> Range:
        return Range(self.lo * factor, self.mid * factor, self.hi * factor)

    def __str__(self) -> str:
        """``4 min 10 s (3 min to 6 min)``."""
        return f"{duration(self.mid)} ({duration(self.lo, 1)} to {duration(self.hi, 1)})"
