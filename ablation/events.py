"""What a running study says, for whoever watches: the terminal panel, a log, a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """``kind``: start, epoch, finished, failed, stopped, pruned, retry (of a trial), warning, phase (of the study).

    A phase is what a study does beside training (draws or decodes pictures, starts Ray, writes its report); its text
    stands until the next one.
    """

    kind: str
    text: str = ""
    key: str = ""
    epoch: int = 0
    score: float | None = None
    """``probe/auroc`` of a finished trial."""


OnEvent = Callable[[Event], None]
