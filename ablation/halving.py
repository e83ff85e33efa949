"""Which candidates of a search end early, from real intermediate scores. Higher is better throughout.

Trials are compared with those of the same seed only: they share their pictures.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Protocol


class Pruner(Protocol):
    """Told every intermediate score once, in the order of their arrival."""

    def prunes(self, seed: int, epoch: int, trial: str, score: float) -> bool:
        """Note the score of ``trial`` after ``epoch``, and say whether it should end there."""


class Halving:
    """Asynchronous successive halving, ASHA (Li et al., MLSys 2020, arXiv:1810.05934), in its stopping form.

    A trial goes on past a rung while it is among the best 1/``factor`` of those that came there so far, itself
    included, or the very best. Rungs are at ``grace * factor**k`` epochs, moved up to the next epoch with a score.
    """

    def __init__(self, grace: int, factor: int, every: int, epochs: int) -> None:
        """``every``: epochs between scores; ``epochs``: length of a trial, which is no rung."""
        self.factor = factor
        self.rungs: list[int] = []
        rung = grace
        while (epoch := -(-rung // every) * every) < epochs:
            if epoch not in self.rungs:
                self.rungs.append(epoch)
            rung *= factor
        self._scores: dict[tuple[int, int], dict[str, float]] = defaultdict(dict)

    def prunes(self, seed: int, epoch: int, trial: str, score: float) -> bool:
        if epoch not in self.rungs:
            return False
        scores = self._scores[seed, epoch]
        scores[trial] = score
        better = sum(other > score for other in scores.values())
        return better >= max(1, len(scores) // self.factor)


class MedianRule:
    """Ends what is worse than the median of the others at the same epoch (Golovin et al., KDD 2017, section 3.2)."""

    def __init__(self, grace: int, n_startup: int) -> None:
        """``n_startup``: how many others there must be."""
        self.grace, self.n_startup = grace, n_startup
        self._scores: dict[tuple[int, int], dict[str, float]] = defaultdict(dict)

    def prunes(self, seed: int, epoch: int, trial: str, score: float) -> bool:
        scores = self._scores[seed, epoch]
        others = [other for name, other in scores.items() if name != trial]
        scores[trial] = score
        return epoch >= self.grace and len(others) >= self.n_startup and score < statistics.median(others)
