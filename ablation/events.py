"""What a running study says, for whoever watches: the terminal panel, a log, a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """``kind``: plan, start, epoch, finished, failed, stopped, pruned, retry (of a trial), note, warning (of the
    study)."""

    kind: str
    text: str = ""
    key: str = ""
    epoch: int = 0
    score: float | None = None
    """``probe/auroc`` of a finished trial."""


OnEvent = Callable[[Event], None]
