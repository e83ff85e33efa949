"""The plots of a study. Each takes a frame, draws on ``ax`` (or on a new Figure), returns the Axes, computes nothing.

Figures are plain ``matplotlib.figure.Figure`` objects: pyplot and its global state are never touched.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from ablation.analysis.style import (
    BASELINE_DASHES,
    INK,
    LEGEND_LINE,
    MUTED,
    RANDOM_INIT,
    Entry,
    Style,
    backbone_marks,
    in_lines,
    level_colors,
    level_label,
    line_dashes,
    method_entries,
    method_style,
)

TITLE_LINE, NAME_LINE = 22, 28
"""Most characters of a line of the title over, and of a name beside, the smallest panel."""


def new_axes(width: float = 4.6, height: float = 3.1) -> Axes:
    """Axes of a fresh Figure, inches."""
    return Figure(figsize=(width, height), layout="constrained").subplots()


def score_vs_imbalance(
    frame: pd.DataFrame,
    *,
    metric: str,
    ax: Axes | None = None,
    baseline: pd.DataFrame | None = None,
    methods: Sequence[str] = (),
    limits: tuple[float, float] | None = None,
    legend: bool = True,
) -> Axes:
    """One line per method over log prevalence; 95 % intervals over trials, a hollow point without one for n = 1.

    ``frame``: method, imbalance, prevalence in (0, 1), value, lo, hi, n. ``baseline``: prevalence and value of the
    untrained backbone. ``supervised`` is dashed, as a reference. ``limits``: y range.
    """
    ax = ax if ax is not None else new_axes()
    order = list(dict.fromkeys([*methods, *frame["method"]]))
    span = np.log(frame["prevalence"].max() / frame["prevalence"].min()) if len(frame) else 0.0
    for i, method in enumerate(order):
        # Methods are set apart sideways a little, so that intervals at one level do not hide each other.
        shift = np.exp(0.012 * (span or 1.0) * (i - (len(order) - 1) / 2))
        _method_line(ax, frame[frame["method"] == method].sort_values("prevalence"), method_style(method, order), shift)
    entries = method_entries([m for m in order if m in set(frame["method"])], baseline=False)
    if baseline is not None and not baseline.empty:
        rows = baseline.sort_values("prevalence")
        dots = line_dashes(BASELINE_DASHES)
        ax.plot(rows["prevalence"], rows["value"], color=MUTED, lw=1.3, ls=dots, marker="_", ms=8, zorder=1)
        entries.append(RANDOM_INIT)
    if limits is not None:
        ax.set_ylim(*limits)
    low, high = ax.get_ylim()
    if metric.endswith("auroc") and low < 0.5 < high:
        ax.axhline(0.5, color=MUTED, lw=0.7, zorder=0)
        where = ("axes fraction", "data")
        ax.annotate("chance", (1, 0.5), xycoords=where, ha="right", va="bottom", color=MUTED, fontsize=7.5)
    _prevalence_axis(ax, frame)
    ax.set_ylabel(in_lines(metric, NAME_LINE))
    if legend:
        handles = [entry.handle() for entry in entries]
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncol=3)
    return ax


def _method_line(ax: Axes, rows: pd.DataFrame, style: Style, shift: float) -> None:
    if rows.empty:
        return
    x, value, lo, hi = (rows[name].to_numpy(float) for name in ("prevalence", "value", "lo", "hi"))
    x, n = x * shift, rows["n"].to_numpy(int)
    ax.plot(x, value, color=style.color, lw=1.5, ls=line_dashes(style.dashes), zorder=2)
    known = (n > 1) & np.isfinite(lo) & np.isfinite(hi)
    ax.vlines(x[known], lo[known], hi[known], color=style.color, lw=1.3, alpha=0.85, zorder=2)
    look: dict[str, Any] = {"ls": "none", "marker": style.marker, "ms": 5.5, "mew": 1.3, "color": style.color,
                            "zorder": 3}
    for mask, face in ((n > 1, style.color), (n == 1, "white")):
        ax.plot(x[mask], value[mask], mfc=face, **look)


def _prevalence_axis(ax: Axes, frame: pd.DataFrame) -> None:
    levels = frame.drop_duplicates("imbalance").sort_values("prevalence")
    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(FixedLocator(levels["prevalence"].tolist()))
    # ``natural`` can sit next to a numbered level: its label goes one line lower.
    names = [
        f"\nnatural ({level_label(round(p, 3))})" if isinstance(level, str) else level_label(level)
        for level, p in zip(levels["imbalance"], levels["prevalence"], strict=True)
    ]
    ax.xaxis.set_major_formatter(FixedFormatter(names))
    if len(levels):
        low, high = levels["prevalence"].min(), levels["prevalence"].max()
        pad = max((high / low) ** 0.08, 1.25)
        ax.set_xlim(low / pad, high * pad)
    ax.set_xlabel("share of defects in pre-training (log scale)")


def selector_scatter(
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    ax: Axes | None = None,
    title: str = "",
    note: str = "",
    levels: Sequence[object] = (),
    backbones: Sequence[str] = (),
) -> Axes:
    """One point per trial: a label-free value against the score. Colour = imbalance, marker = backbone.

    ``frame``: imbalance, backbone, and the columns ``x`` and ``y`` (finite).
    """
    ax = ax if ax is not None else new_axes(2.9, 2.5)
    colors = level_colors(levels or frame["imbalance"].tolist())
    marks = backbone_marks(backbones or frame["backbone"].tolist())
    for (level, backbone), rows in frame.groupby(["imbalance", "backbone"], sort=False):
        ax.plot(
            rows[x],
            rows[y],
            ls="none",
            marker=marks[str(backbone)][0],
            ms=5.2,
            mew=0.6,
            mec=INK,
            alpha=0.9,
            color=colors[level],
        )
    ax.grid(axis="x")
    ax.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=3))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.margins(0.09)
    title = in_lines(title, TITLE_LINE)
    if note:
        ax.set_title(note, loc="right", fontsize=8, fontweight="normal", color=MUTED)
        title += "\n" if len(title.split("\n")[-1]) > 14 else ""  # a line of its own for the note
    ax.set_title(title)
    ax.set_xlabel(in_lines(x.removeprefix("metrics."), NAME_LINE))
    ax.set_ylabel(in_lines(y.removeprefix("metrics."), NAME_LINE))
    return ax


def learning_curves(
    frame: pd.DataFrame,
    *,
    ax: Axes | None = None,
    title: str = "",
    levels: Sequence[object] = (),
    backbones: Sequence[str] = (),
    ylabel: str = "train/loss",
) -> Axes:
    """One line per trial over epochs. Colour = imbalance, dashes = backbone; a cross ends the line of a failed trial.

    ``frame``: key, epoch, value, imbalance, backbone, state. Losses of different methods share no unit: draw each
    method on axes of its own.
    """
    ax = ax if ax is not None else new_axes(2.9, 2.3)
    colors = level_colors(levels or frame["imbalance"].tolist())
    marks = backbone_marks(backbones or frame["backbone"].tolist())
    for _, rows in frame.groupby("key", sort=False):
        rows = rows.sort_values("epoch")
        first = rows.iloc[0]
        color = colors[first["imbalance"]]
        ax.plot(
            rows["epoch"],
            rows["value"],
            color=color,
            ls=line_dashes(marks[first["backbone"]][1]),
            lw=1.1,
            alpha=0.85,
            marker="o" if len(rows) == 1 else "",
            ms=3,
        )
        if first["state"] == "FAILED":
            ax.plot(rows["epoch"].iloc[-1], rows["value"].iloc[-1], marker="x", ms=6.5, mew=1.6, color=color)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set_title(in_lines(title, TITLE_LINE))
    ax.set_xlabel("epoch")
    ax.set_ylabel(in_lines(ylabel, NAME_LINE))
    return ax


def facets(
    panels: Sequence[Callable[[Axes], object]],
    *,
    columns: int,
    width: float,
    height: float,
    legend: Sequence[Entry] = (),
    sharey: bool = False,
) -> Figure:
    """All panels on one Figure, with one legend below: the version for slides and papers."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    # Rough width of a legend entry in inches; text is measured only when the figure is drawn.
    widest = max((0.5 + 0.065 * min(len(entry.label), LEGEND_LINE) for entry in legend), default=1.0)
    figure = Figure(figsize=(width * columns, height * rows + (0.5 if legend else 0)), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel()
    for ax, draw in zip(grid, panels, strict=False):
        draw(ax)
    for ax in grid[len(panels) :]:
        ax.set_axis_off()
    if legend:
        figure.legend(
            handles=[entry.handle() for entry in legend],
            loc="outside lower center",
            ncol=-(-len(legend) // -(-len(legend) // max(1, int(width * columns / widest)))),
        )
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # placed once is enough for all file formats
    return figure


def to_svg(figure: Figure) -> str:
    """SVG text without dates or version stamps. Call inside ``house_style``."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def to_png(figure: Figure, dpi: int = 130) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def to_pdf(figure: Figure) -> bytes:
    """PDF with its fonts, without dates or version stamps. Call inside ``house_style``."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()
