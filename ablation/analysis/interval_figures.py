"""Estimates with their intervals, and what stands between methods. Each takes a frame, draws on ``ax`` (or on a new
Figure), returns the Axes, computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from ablation.analysis.figures import new_axes
from ablation.analysis.style import INK, MUTED, RULE, in_lines, level_colors, level_label, level_order, method_style

BLUE, ORANGE = "#0072b2", "#e69f00"
NAME = 18
"""Characters of a method's name in one line."""


def forest_height(rows: int) -> float:
    """Inches that ``forest`` needs."""
    return 0.75 + 0.24 * max(rows, 2)


def forest(frame: pd.DataFrame, *, xlabel: str, ax: Axes | None = None, filled: Sequence[bool] = (),
           reference: float | None = None, reference_label: str = "", colors: Sequence[str] = ()) -> Axes:
    """One line per row: name, value, lo, hi. ``filled`` False draws a hollow point; ``reference`` a dashed upright."""
    ax = ax if ax is not None else new_axes(4.6, forest_height(len(frame)))
    places = np.arange(len(frame))[::-1]
    for i, (place, row) in enumerate(zip(places, frame.to_dict("records"), strict=True)):
        color = colors[i] if colors else BLUE
        full = filled[i] if len(filled) else True
        if np.isfinite([row["lo"], row["hi"]]).all():
            ax.hlines(place, row["lo"], row["hi"], color=color, lw=1.6, zorder=2)
        ax.plot(row["value"], place, "o", ms=5.5, mew=1.3, color=color, mfc=color if full else "white", zorder=3)
    if reference is not None:
        ax.axvline(reference, color=MUTED, lw=1.0, ls=(0, (3, 2)), zorder=1)
        if reference_label:
            ax.annotate(reference_label, (reference, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom",
                        color=MUTED, fontsize=7.5)
    ax.yaxis.set_major_locator(FixedLocator(places.tolist()))
    ax.yaxis.set_major_formatter(FixedFormatter([in_lines(name, 32) for name in frame["name"]]))
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.set_ylim(-0.7, max(len(frame) - 0.3, 0.3))
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", visible=True)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.margins(x=0.06)
    ax.set_xlabel(xlabel)
    return ax


def drop_lines(frame: pd.DataFrame, share: Mapping[object, float], *, metric: str, ax: Axes | None = None) -> Axes:
    """What rarity costs: one line per method over log prevalence, below 0 = worse than at balance.

    ``frame``: method, imbalance, value, lo, hi (of ``factors.drop``); ``share``: prevalence of each level.
    """
    ax = ax if ax is not None else new_axes()
    order = list(dict.fromkeys(frame["method"]))
    levels = [level for level in level_order(frame["imbalance"].tolist()) if np.isfinite(share[level])]
    x = np.array([share[level] for level in levels])
    for i, method in enumerate(order):
        style = method_style(method, order)
        rows = frame[frame["method"] == method].set_index("imbalance").reindex(levels)
        shifted = x * np.exp(0.05 * (i - (len(order) - 1) / 2))
        value, lo, hi = (-rows[name].to_numpy(float) for name in ("value", "hi", "lo"))
        ax.plot(shifted, value, color=style.color, marker=style.marker, ms=5, lw=1.3)
        known = np.isfinite(lo) & np.isfinite(hi)
        ax.vlines(shifted[known], lo[known], hi[known], color=style.color, lw=1.2, alpha=0.85)
    ax.axhline(0, color=MUTED, lw=0.9, zorder=0)
    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(FixedLocator(x.tolist()))
    ax.xaxis.set_major_formatter(FixedFormatter([level_label(level) for level in levels]))
    ax.set_xlabel("share of defects in pre-training (log scale)")
    ax.set_ylabel(f"change of {metric}")
    return ax


def diagram_height(methods: int) -> float:
    """Inches that ``critical_difference`` needs."""
    return 1.1 + 0.2 * methods


def critical_difference(frame: pd.DataFrame, width: float, cliques: Sequence[tuple[int, int]], *,
                        ax: Axes | None = None) -> Axes:
    """Mean ranks on one line, best on the left; a bar joins methods that Nemenyi's test does not tell apart.

    ``frame``: method, rank, sorted by rank. ``cliques``: (first, last) places. Demšar, JMLR 2006, figure 1.
    """
    ax = ax if ax is not None else new_axes(5.6, diagram_height(len(frame)))
    ranks, num = frame["rank"].to_numpy(float), len(frame)
    half = -(-num // 2)
    room = 0.65 * (num - 1) + 0.2  # for the names beside the lines
    ax.set_xlim(1 - room, num + room)
    deepest = 0.75 + 0.42 * half + 0.22 * len(cliques)
    ax.set_ylim(-deepest, 1.0)
    ax.hlines(0, 1, num, color=INK, lw=1.2)
    for place in range(1, num + 1):
        ax.vlines(place, 0, 0.12, color=INK, lw=1.0)
        ax.annotate(str(place), (place, 0.16), ha="center", va="bottom", fontsize=8, color=MUTED)
    for depth, (first, last) in enumerate(cliques):
        ax.hlines(-0.22 - 0.22 * depth, ranks[first] - 0.04, ranks[last] + 0.04, color=INK, lw=3.2)
    below = 0.3 + 0.22 * len(cliques)
    for i, method in enumerate(frame["method"]):
        left = i < half
        level = -below - 0.42 * ((i if left else num - 1 - i) + 0.6)
        edge = 0.85 if left else num + 0.15
        style = method_style(method, frame["method"].tolist())
        ax.plot([ranks[i], ranks[i], edge], [0, level, level], color=style.color, lw=1.2)
        ax.plot(ranks[i], 0, style.marker, color=style.color, ms=6, zorder=3)
        label = style.label if len(style.label) <= NAME else style.label[:NAME - 1] + "…"
        ax.annotate(f"{label} ({ranks[i]:.2f})", (edge, level), ha="right" if left else "left", va="center",
                    fontsize=8.5, xytext=(-4 if left else 4, 0), textcoords="offset points")
    if np.isfinite(width) and width < num - 1:
        ax.hlines(0.72, 1, 1 + width, color=MUTED, lw=1.6)
        ax.vlines([1, 1 + width], 0.66, 0.78, color=MUTED, lw=1.2)
        ax.annotate(f"critical difference {width:.2f}", (1 + width + 0.06, 0.72), va="center", fontsize=8, color=MUTED)
    ax.set_axis_off()
    return ax


def improvement_matrix(frame: pd.DataFrame, methods: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """P(row beats column) in percent; **not** shaded where the 95 % interval holds one half.

    ``frame``: a, b, prob_better, prob_lo, prob_hi of ``factors.compare``.
    """
    num = len(methods)
    ax = ax if ax is not None else new_axes(1.4 + 0.62 * num, 0.9 + 0.42 * num)
    known = {}
    for row in frame.to_dict("records"):
        value, lo, hi = row["prob_better"], row["prob_lo"], row["prob_hi"]
        told = np.isfinite(lo) and not lo <= 0.5 <= hi
        known[row["a"], row["b"]], known[row["b"], row["a"]] = (value, told), (1 - value, told)
    for i, first in enumerate(methods):
        for j, second in enumerate(methods):
            if (first, second) not in known:
                continue
            value, told = known[first, second]
            if told:
                alpha = 0.12 + 0.5 * abs(value - 0.5) / 0.5
                ax.fill_between([j - 0.5, j + 0.5], i - 0.5, i + 0.5, color=BLUE if value > 0.5 else ORANGE,
                                alpha=alpha, lw=0)
            ax.annotate(f"{100 * value:.0f}", (j, i), ha="center", va="center", fontsize=8.5,
                        fontweight="bold" if told else "normal")
    names = [in_lines(method_style(method, list(methods)).label, NAME) for method in methods]
    ax.set_xlim(-0.5, num - 0.5)
    ax.set_ylim(num - 0.5, -0.5)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(FixedLocator(list(range(num))))
        axis.set_major_formatter(FixedFormatter(names))
    ax.tick_params(length=0, labelcolor=INK)
    ax.tick_params(axis="x", labelrotation=90)
    ax.grid(visible=False)
    for edge in np.arange(num + 1) - 0.5:
        ax.axhline(edge, color=RULE, lw=0.6)
        ax.axvline(edge, color=RULE, lw=0.6)
    return ax


def profiles(frame: pd.DataFrame, *, metric: str, ax: Axes | None = None) -> Axes:
    """Share of runs above a score, one line per method; higher = better everywhere. ``frame``: method, threshold,
    share."""
    ax = ax if ax is not None else new_axes()
    order = list(dict.fromkeys(frame["method"]))
    for method in order:
        rows, style = frame[frame["method"] == method], method_style(method, order)
        ax.plot(rows["threshold"], rows["share"], color=style.color, lw=1.5, marker=style.marker, ms=4.5,
                markevery=max(1, len(rows) // 8))
    ax.set_ylim(-0.03, 1.03)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel(f"{metric} above")
    ax.set_ylabel("share of runs")
    return ax


def seed_strip(frame: pd.DataFrame, *, metric: str, ax: Axes | None = None, levels: Sequence[object] = ()) -> Axes:
    """Every trial as one point: method across, level by colour. ``frame``: method, imbalance, value."""
    ax = ax if ax is not None else new_axes()
    order = list(dict.fromkeys(frame["method"]))
    colors = level_colors(levels or frame["imbalance"].tolist())
    for (method, level), rows in frame.groupby(["method", "imbalance"], sort=False):
        rank = list(colors).index(level)
        across = order.index(str(method)) + (rank - (len(colors) - 1) / 2) * 0.7 / max(len(colors), 2)
        ax.plot(np.full(len(rows), across), rows["value"], "o", ms=3.6, mew=0.5, mec=INK, alpha=0.85,
                color=colors[level])
    ax.xaxis.set_major_locator(FixedLocator(list(range(len(order)))))
    ax.xaxis.set_major_formatter(FixedFormatter([in_lines(method_style(m, order).label, 9) for m in order]))
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.6, len(order) - 0.4)
    ax.set_ylabel(metric)
    return ax
