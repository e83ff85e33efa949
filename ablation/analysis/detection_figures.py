"""Plots of ``ablation.analysis.detection``: frame in, Axes out, nothing computed. Rules as in ``analysis.figures``.

Frames of several methods have a column ``method``; without one there is a single line. Curves carry a marker now and
then, so that no method is told by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from ablation.analysis.figures import new_axes
from ablation.analysis.style import INK, MUTED, Style, line_dashes, method_style

STAGE_STYLES = {
    "as trained": Style("as trained", "#e69f00", "s", (1.0, 1.4)),
    "calibrated": Style("calibrated", "#0072b2", "o"),
}
_ONE = Style("", "#0072b2", "o")
_MARKS = 9


def _lines(frame: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, Style]]:
    if "method" not in frame:
        yield frame, _ONE
        return
    order = list(dict.fromkeys(frame["method"]))
    for method in order:
        yield frame[frame["method"] == method], method_style(method, order)


def _curve(ax: Axes, rows: pd.DataFrame, style: Style, x: str, y: str, band: bool, order: int) -> None:
    known = rows[np.isfinite(rows[x]) & np.isfinite(rows[y])]
    if known.empty:
        return
    if band:
        ax.fill_between(known[x].to_numpy(float), known[f"{y}_lo"].to_numpy(float), known[f"{y}_hi"].to_numpy(float),
                        color=style.color, alpha=0.16, lw=0, zorder=1)
    every = max(1, len(known) // _MARKS)
    ax.plot(known[x], known[y], color=style.color, lw=1.6, ls=line_dashes(style.dashes), marker=style.marker, ms=5,
            markevery=(min(order * every // 4, len(known) - 1), every), label=style.label, zorder=2)


def _unit_axes(ax: Axes, title: str) -> None:
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
        axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.grid(axis="x")
    ax.set_title(title)


def roc(frame: pd.DataFrame, ax: Axes | None = None, *, points: pd.DataFrame | None = None, title: str = "",
        legend: bool = True) -> Axes:
    """ROC curve per method; a single one with its pointwise interval as a band.

    ``frame``: fpr, tpr, tpr_lo, tpr_hi as from ``detection.curve``, optionally method. ``points``: rows of
    ``operating_points.budget_table`` (fpr, tpr and their _lo, _hi, budget), drawn as crosses of intervals.
    """
    ax = ax if ax is not None else new_axes(3.6, 3.3)
    ax.plot([0, 1], [0, 1], color=MUTED, lw=0.8, zorder=0)
    ax.annotate("chance", (0.8, 0.77), color=MUTED, fontsize=7.5, ha="left", va="top")
    lines = list(_lines(frame))
    for order, (rows, style) in enumerate(lines):
        _curve(ax, rows, style, "fpr", "tpr", len(lines) == 1, order)
    known = [] if points is None else points.dropna(subset=["fpr", "tpr"]).to_dict("records")
    for row in known:
        x, y = row["fpr"], row["tpr"]
        ax.errorbar(x, y, xerr=[[x - row["fpr_lo"]], [row["fpr_hi"] - x]], yerr=[[y - row["tpr_lo"]],
                    [row["tpr_hi"] - y]], color=INK, marker="D", ms=5, mfc="white", mew=1.3, lw=1.2, zorder=4)
        ax.annotate(f"budget {100 * row['budget']:.3g} %", (row["fpr_hi"], y), xytext=(5, -4), fontsize=7.5, color=INK,
                    textcoords="offset points", va="top")
    _unit_axes(ax, title)
    ax.set_xlabel("normals flagged (false positive rate)")
    ax.set_ylabel("defects found (recall)")
    if legend and "method" in frame and len(frame):
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.08))
    return ax


def precision_recall(frame: pd.DataFrame, ax: Axes | None = None, *, title: str = "", legend: bool = True) -> Axes:
    """Precision over recall at the deployment prevalence, with the chance line; a single curve with its band.

    ``frame``: tpr, precision, precision_lo, precision_hi, prevalence (one value) as from ``detection.curve``,
    optionally method.
    """
    ax = ax if ax is not None else new_axes(3.6, 3.3)
    lines = list(_lines(frame))
    for order, (rows, style) in enumerate(lines):
        _curve(ax, rows, style, "tpr", "precision", len(lines) == 1, order)
    _unit_axes(ax, title)
    if len(frame):
        prevalence = float(frame["prevalence"].iloc[0])
        ax.axhline(prevalence, color=MUTED, lw=0.8, zorder=0)
        ax.annotate(f"line: chance, {100 * prevalence:.3g} % are defects", (0.98, 0.55), xycoords="axes fraction",
                    color=MUTED, ha="right", va="center", fontsize=7.5)
    ax.set_xlabel("defects found (recall)")
    ax.set_ylabel("flagged that are defects (precision)")
    if legend and "method" in frame and len(frame):
        ax.legend(loc="upper right")
    return ax


def reliability(frame: pd.DataFrame, ax: Axes | None = None, *, title: str = "", legend: bool = True) -> Axes:
    """Observed share of defects over predicted probability, both on log scales: at deployment most are small.

    ``frame``: predicted, observed, lo, hi, optionally stage, as from ``calibration.trial_calibration``. A bin without
    a defect is hollow and stands on the lower edge, under the interval that it still has. Values below
    0.01 % stand on the edge.
    """
    ax = ax if ax is not None else new_axes(3.6, 3.3)
    floor = _floor(frame)
    ax.plot([floor, 1], [floor, 1], color=MUTED, lw=0.8, zorder=0)
    ax.annotate("as predicted", (0.4, 0.4), xytext=(-5, 3), textcoords="offset points", color=MUTED, fontsize=7.5,
                ha="right", va="bottom")
    stages = dict.fromkeys(frame["stage"]) if "stage" in frame else [None]
    for stage in stages:
        rows = frame if stage is None else frame[frame["stage"] == stage]
        style = STAGE_STYLES.get(str(stage), _ONE)
        x = rows["predicted"].clip(floor, 1)
        ax.plot(x, rows["observed"].clip(floor, 1), color=style.color, lw=1.2, ls=line_dashes(style.dashes),
                alpha=0.7, zorder=2)
        ax.vlines(x, rows["lo"].clip(floor, 1), rows["hi"].clip(floor, 1), color=style.color, lw=1.3, zorder=2)
        for seen, face in ((rows["observed"] > 0, style.color), (rows["observed"] == 0, "white")):
            ax.plot(x[seen], rows["observed"][seen].clip(floor, 1), ls="none", marker=style.marker, ms=5.5, mew=1.3,
                    color=style.color, mfc=face, clip_on=False, zorder=3)
        ax.plot([], [], color=style.color, marker=style.marker, ls=line_dashes(style.dashes), label=style.label)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(floor, 1)
    ax.set_ylim(floor, 1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(FixedLocator([tick for tick in (1e-4, 1e-3, 1e-2, 0.1, 1) if tick >= floor]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    ax.grid(axis="x")
    ax.set_title(title)
    ax.set_xlabel("predicted probability of a defect (log)")
    ax.set_ylabel("observed share of defects (log)")
    if legend and "stage" in frame and len(frame):
        ax.legend(loc="lower right")
    return ax


def _floor(frame: pd.DataFrame) -> float:
    """A power of ten below the values that are not 0, at least 1e-4."""
    values = frame[["predicted", "observed"]].to_numpy(float).ravel()
    values = values[values > 0]
    return max(10.0 ** math.floor(math.log10(values.min())), 1e-4) if len(values) else 1e-3


def recall_by_type(frame: pd.DataFrame, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Recall of each defect type with its interval, most frequent on top, n beside the name.

    ``frame``: type, n, recall, lo, hi, as from ``detection.recall_by_type``.
    """
    ax = ax if ax is not None else new_axes(3.6, 0.8 + 0.24 * max(len(frame), 2))
    y = np.arange(len(frame))
    ax.hlines(y, frame["lo"], frame["hi"], color=_ONE.color, lw=1.5, zorder=2)
    ax.plot(frame["recall"], y, ls="none", marker=_ONE.marker, ms=5.5, color=_ONE.color, clip_on=False, zorder=3)
    ax.yaxis.set_major_locator(FixedLocator(y.tolist()))
    ax.set_yticklabels([f"{name} (n = {n})" for name, n in zip(frame["type"], frame["n"], strict=True)])
    ax.set_ylim(len(frame) - 0.4, -0.6)
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.tick_params(axis="y", length=0)
    ax.set_title(title)
    ax.set_xlabel("defects found (recall)")
    return ax
