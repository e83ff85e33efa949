"""Times for people, and ranges of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


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


def duration(seconds: float, parts: int = 2) -> str:
    """``45 s``, ``4 min 10 s``, ``3 h 20 min``, ``2 d 5 h``; only the largest part with ``parts`` 1, rounded."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    for name, length, below, smaller in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= (1.5 if parts == 1 else 1) * length:
            if parts == 1:
                count = seconds / length
                return f"{count:.0f} {name}" if count >= 5 else f"{count:.2g} {name}"
            whole, rest = divmod(round(seconds / smaller), length // smaller)
            return f"{whole} {name} {rest} {below}" if rest else f"{whole} {name}"
    return f"{seconds:.0f} s"
