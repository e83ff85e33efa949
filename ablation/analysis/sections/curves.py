"""The training loss of every trial over its epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ablation.analysis import figures, tables
from ablation.analysis.bundle import Bundle
from ablation.analysis.document import Section, Text
from ablation.analysis.findings import method_order
from ablation.analysis.sections.view import StudyView
from ablation.analysis.style import context_entries, level_order, method_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSS = "train/loss"


def section(view: StudyView, bundle: Bundle) -> Section:
    """One panel per method, one line per trial."""
    curves = view.results.history()
    if len(curves):
        curves = curves[(curves["metric"] == LOSS) & np.isfinite(curves["value"].to_numpy(float))]
    if len(curves):
        curves = curves.merge(view.trials[["key", "method", "backbone", "imbalance", "state"]], on="key")
    if curves.empty:
        return Section("curves", "Learning curves", (Text("No trial has reported a training loss yet."),))
    bundle.table("curves", tables.curves(view.trials, view.results.history()))
    levels, backbones = level_order(curves["imbalance"].tolist()), sorted(set(curves["backbone"]))

    def panel(method: str) -> Callable[[Axes], object]:
        rows = curves[curves["method"] == method]
        return lambda ax: figures.learning_curves(
            rows, ax=ax, title=method_style(method).label, levels=levels, backbones=backbones, ylabel=LOSS
        )

    block = bundle.plot(
        "learning_curves",
        "Training loss, one line per trial. Losses of different methods share no unit, so each panel has its own axis. "
        "A cross ends the line of a trial that failed.",
        [(f"{LOSS} over epochs, one line per {method} trial", panel(method)) for method in method_order(curves)],
        legend=context_entries(levels, backbones, lines=True),
    )
    return Section("curves", "Learning curves", (block,))
