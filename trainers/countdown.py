"""How far a long loop is, for people: a line now and then with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable


class Countdown:
    """``step`` after every so many of ``total``; silent in a loop that is over within ``period`` seconds, and where
    nobody listens (``say`` null)."""

    def __init__(self, doing: str, total: int, unit: str, say: Callable[[str], None] | None,
                 period: float = 2.0) -> None:
        self._text, self._total, self._say, self._period = f"{doing} {{}}/{total} {unit}", total, say, period
        self._done = 0
        self._begun = self._said = time.monotonic()

    def step(self, number: int = 1) -> None:
        self._done += number
        now = time.monotonic()
        if self._say and now - self._said > self._period and 0 < self._done < self._total:
            left = (self._total - self._done) * (now - self._begun) / self._done
            self._say(f"{self._text.format(self._done)}, about {duration(left, 1)} left")
            self._said = now


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
