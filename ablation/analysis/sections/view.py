"""What every section of a report looks at, computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import pandas as pd

from ablation.analysis.bundle import Bundle
from ablation.analysis.document import Section
from ablation.analysis.findings import untrained
from ablation.analysis.tables import CELL, higher_is_better

if TYPE_CHECKING:
    from ablation.analysis.contact_sheet import Images
    from ablation.results import StudyResults


@dataclass(frozen=True, eq=False)
class StudyView:
    """A study and the one metric its report is about.

    ``trials``: one row per planned trial. ``planned``: one row per (method, backbone, imbalance) with n, planned,
    value, lo, hi; ``cells``: its rows with n > 0. ``baseline``: backbone, imbalance, value and n of the untrained
    backbone.
    """

    results: StudyResults
    metric: str
    trials: pd.DataFrame
    planned: pd.DataFrame
    cells: pd.DataFrame
    baseline: pd.DataFrame
    images: Images | None = None

    @classmethod
    def of(cls, results: StudyResults, metric: str, images: Images | None = None) -> StudyView:
        """Any state of a study will do; frames are empty where nothing has finished."""
        trials = results.reported_trials()
        planned = _cells(results, trials, metric)
        cells = planned[planned["n"] > 0].reset_index(drop=True)
        return cls(results, metric, trials, planned, cells, untrained(trials, metric), images)

    @property
    def higher(self) -> bool:
        """Whether a higher value of the metric is better."""
        return higher_is_better(self.metric)

    @property
    def column(self) -> str:
        """The metric's column in ``trials``."""
        return f"metrics.{self.metric}"

    @property
    def done(self) -> pd.DataFrame:
        """The finished trials that have the metric."""
        if self.column not in self.trials:
            return self.trials.iloc[:0]
        return self.trials[self.trials["state"].eq("FINISHED") & self.trials[self.column].notna()]


Builder: TypeAlias = Callable[[StudyView, Bundle], Section | None]
"""Makes one section and puts its tables and figures into the bundle; None leaves the section out."""


def _cells(results: StudyResults, trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    column = f"metrics.{metric}"
    if column not in trials or not (trials["state"].eq("FINISHED") & trials[column].notna()).any():
        return pd.DataFrame(columns=[*CELL, "n", "planned", "value", "lo", "hi"])
    return results.aggregate(metric, by=CELL)
