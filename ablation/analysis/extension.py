"""Which trials are worth running next: the seeds that would settle the pairs of methods that are still open."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from ablation.analysis.factors import TOO_FEW, pair_power
from ablation.analysis.tables import self_supervised
from ablation.errors import NothingMatched

if TYPE_CHECKING:
    from ablation.spec import StudySpec

FEWEST_SEEDS = 3
"""The least that gives an interval in any design."""
MAX_MORE = 10
"""Most seeds that are proposed at once: a pair that needs more differs by less than it is worth."""


@dataclass(frozen=True)
class Extension:
    """What is open, and a study file that extends the study; ``spec`` is None where no seeds would help."""

    pairs: pd.DataFrame
    """``factors.pair_power`` of the self-supervised methods."""
    unfinished: int
    """Planned trials without a result: the same file runs them again."""
    more_seeds: int
    spec: StudySpec | None

    def lines(self) -> list[str]:
        """The reasons, as sentences."""
        open_pairs = self.pairs[~self.pairs["settled"].astype(bool)]
        settled = f"{len(self.pairs) - len(open_pairs)} of {len(self.pairs)} pairs of methods are settled."
        lines = [settled if len(self.pairs) else "There is no pair of methods to settle."]
        for row in open_pairs.to_dict("records"):
            if not math.isfinite(row["lo"]):
                lines.append(f"{row['a']} and {row['b']}: {TOO_FEW} (n = {row['n']})")
                continue
            known = math.isfinite(row["more_seeds"])
            needs = f"{row['more_seeds']:.0f} more seeds" if known else "more than 1,000 seeds"
            lines.append(f"{row['a']} and {row['b']}: {row['difference']:+.3f} ({row['lo']:+.3f} to {row['hi']:+.3f}, "
                         f"n = {row['n']}); {needs} would settle a difference of this size")
        if self.unfinished:
            lines.append(f"{self.unfinished} planned trials have no result; running the study again takes them up.")
        if self.more_seeds and (open_pairs["lo"].isna()).all():
            lines.append(f"{self.more_seeds} more seeds give every pair an interval.")
        elif self.more_seeds:
            closed = int((open_pairs["more_seeds"] <= self.more_seeds).sum())
            lines.append(f"{self.more_seeds} more seeds are likely to settle {closed} of {len(open_pairs)} open pairs "
                         "(80 % power each, for the difference as seen, which is itself uncertain).")
        elif len(open_pairs):
            lines.append(f"No open pair is within {MAX_MORE} more seeds: these methods differ by too little to tell.")
        return lines


def extension(trials: pd.DataFrame, spec: StudySpec, metric: str, max_more: int = MAX_MORE) -> Extension:
    """The least number of seeds that settles every open pair which ``max_more`` seeds can settle.

    Seeds are added to the whole grid, so that blocks stay complete and seeds stay paired; trials that have finished are
    not run again.
    """
    unfinished = int((trials["state"] != "FINISHED").sum())
    try:
        pairs = pair_power(self_supervised(trials), metric)
    except NothingMatched:  # nothing to compare yet: what is unfinished comes first
        if not unfinished:
            raise
        pairs = pd.DataFrame({"settled": [], "more_seeds": [], "lo": []})
    still = pairs[~pairs["settled"].astype(bool)]
    needed = still.loc[still["more_seeds"] <= max_more, "more_seeds"]
    more = int(needed.max()) if len(needed) else 0
    if len(still) and still["lo"].isna().all():
        more = max(0, FEWEST_SEEDS - len(spec.grid.seed))
    first = max(spec.grid.seed) + 1
    seeds = (*spec.grid.seed, *range(first, first + more))
    grown = spec.model_copy(update={"grid": spec.grid.model_copy(update={"seed": seeds})})
    return Extension(pairs, unfinished, more, grown if more or unfinished else None)
