"""The figures of a search. Each takes a frame, draws on ``ax`` (or on a new Figure), returns the Axes, computes
nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import (
    EngFormatter,
    FixedFormatter,
    FixedLocator,
    FormatStrFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from ablation.analysis.figures import NAME_LINE, TITLE_LINE, new_axes
from ablation.analysis.setting_scale import SettingScale, setting_label, value_label
from ablation.analysis.style import (
    INK,
    MUTED,
    RULE,
    Entry,
    backbone_label,
    backbone_marks,
    context_entries,
    in_lines,
    level_colors,
    line_dashes,
    method_style,
)

BLUE = "#0072b2"
RECIPE_MARK = "*"
AXIS_LINE = 11
"""Most characters of a line under an axis of ``parallel``."""


def search_entries(levels: Sequence[object], backbones: Sequence[str], lines: bool = False,
                   failed: bool = False) -> list[Entry]:
    """Legend of ``history`` (``lines``) and ``slices``."""
    marks = backbone_marks(backbones).items() if len(backbones) > 1 else ()
    return [*context_entries(levels, []),
            *(Entry(backbone_label(name), MUTED, marker, lines, dashes) for name, (marker, dashes) in marks),
            Entry("recipe", MUTED, RECIPE_MARK), *([Entry("failed", MUTED, "X")] if failed else [])]


def history(frame: pd.DataFrame, *, ax: Axes | None = None, title: str = "", levels: Sequence[object] = (),
            backbones: Sequence[str] = (), ylabel: str = "value") -> Axes:
    """Value of every candidate over the images spent so far, and the best complete value yet as a line per search.

    ``frame``: imbalance, backbone, state, value, is_recipe, spent, so_far (of ``search_tables.progress``). Small and
    hollow = stopped early, at the value it had then; star = the recipe; a cross on the lower edge = failed.
    """
    ax = ax if ax is not None else new_axes(2.9, 2.4)
    colors = level_colors(levels or frame["imbalance"].tolist())
    marks = backbone_marks(backbones or frame["backbone"].tolist())
    for (level, backbone), rows in frame.groupby(["imbalance", "backbone"], sort=False):
        color, (marker, dashes) = colors[level], marks[str(backbone)]
        best = rows[rows["so_far"].notna()]
        ax.step(best["spent"], best["so_far"], where="post", color=color, lw=1.4, ls=line_dashes(dashes), zorder=2)
        look: dict[str, Any] = {"ls": "none", "color": color, "zorder": 3}
        recipe = rows["is_recipe"].astype(bool)
        for mask, size, face in ((rows["state"].eq("PRUNED"), 2.8, "white"),
                                 (rows["state"].eq("COMPLETE") & ~recipe, 3.8, color)):
            ax.plot(rows["spent"][mask], rows["value"][mask], marker=marker, ms=size, mew=0.8, mfc=face, alpha=0.5,
                    **look)
        ax.plot(rows["spent"][recipe], rows["value"][recipe], marker=RECIPE_MARK, ms=9, mec=INK, mew=0.6,
                **(look | {"zorder": 4}))
        lost = rows["spent"][rows["state"].eq("FAIL")]
        ax.plot(lost, np.full(len(lost), 0.03), marker="X", ms=5, mew=0.4, transform=ax.get_xaxis_transform(), **look)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set_title(in_lines(title, TITLE_LINE))
    ax.set_xlabel("training images spent")
    ax.set_ylabel(in_lines(ylabel, NAME_LINE))
    return ax


def slices(frame: pd.DataFrame, setting: str, scale: SettingScale, *, ax: Axes | None = None, title: str = "",
           levels: Sequence[object] = (), backbones: Sequence[str] = (), ylabel: str = "value") -> Axes:
    """Value of every complete candidate over one setting. Colour = imbalance, marker = backbone, star = the recipe.

    ``frame``: imbalance, backbone, value, is_recipe and the column ``setting``.
    """
    ax = ax if ax is not None else new_axes(2.9, 2.4)
    colors = level_colors(levels or frame["imbalance"].tolist())
    marks = backbone_marks(backbones or frame["backbone"].tolist())
    searches = frame.groupby(["imbalance", "backbone"], sort=False)
    for i, ((level, backbone), rows) in enumerate(searches):
        rows = rows[rows[setting].notna()]
        across = rows[setting]
        if scale.kind == "choice":  # searches stand beside each other
            across = rows[setting].map(scale.choices.index) + 0.6 * ((i + 0.5) / len(searches) - 0.5)
        recipe = rows["is_recipe"].astype(bool)
        ax.plot(across[~recipe], rows["value"][~recipe], ls="none", marker=marks[str(backbone)][0], ms=4.4, mew=0.5,
                mec=INK, alpha=0.85, color=colors[level])
        ax.plot(across[recipe], rows["value"][recipe], ls="none", marker=RECIPE_MARK, ms=10, mew=0.6, mec=INK,
                color=colors[level], zorder=3)
    if scale.kind == "log":
        _log_axis(ax)
    elif scale.kind == "choice":
        ax.xaxis.set_major_locator(FixedLocator(list(range(len(scale.choices)))))
        ax.xaxis.set_major_formatter(FixedFormatter([in_lines(value_label(choice), 9) for choice in scale.choices]))
        ax.set_xlim(-0.5, len(scale.choices) - 0.5)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.grid(axis="x")
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set_title(in_lines(title, TITLE_LINE))
    ax.set_xlabel(in_lines(setting_label(setting), NAME_LINE))
    ax.set_ylabel(in_lines(ylabel, NAME_LINE))
    return ax


def _log_axis(ax: Axes) -> None:
    """Powers of ten; over less than two of them plain numbers, few enough to stand apart."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    if high < 20 * low:
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 3 * low else (1, 1.5, 2, 3, 4, 5, 6, 8)))
        ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def parallel(frame: pd.DataFrame, axes: Mapping[str, SettingScale], *, ax: Axes | None = None, title: str = "") -> Axes:
    """One line per candidate over its settings, ending at its place in its search; the best ones in colour.

    ``frame``: the columns of ``axes``, is_recipe, place (0 to 1, 1 = best of its search) and top (in colour). A gap =
    the candidate lacks the setting.
    """
    ax = ax if ax is not None else new_axes(4.3, 3.1)
    names = list(axes)
    heights = np.stack([*(axes[name].position(frame[name]) for name in names), frame["place"].to_numpy(float)], axis=1)
    recipe, top = (frame[name].to_numpy(bool) for name in ("is_recipe", "top"))
    across = np.arange(len(names) + 1)
    looks: list[tuple[np.ndarray, dict[str, Any]]] = [
        (~top & ~recipe, {"color": MUTED, "lw": 0.6, "alpha": 0.35}),
        (top & ~recipe, {"color": BLUE, "lw": 1.2, "alpha": 0.8}),
        (recipe, {"color": INK, "lw": 1.4, "ls": (0, (4, 2)), "marker": RECIPE_MARK, "ms": 6})]
    for mask, look in looks:
        if mask.any():
            ax.plot(across, heights[mask].T, **look)
    for i, name in enumerate([*names, "place"]):
        ax.axvline(i, color=MUTED, lw=0.8, zorder=0)
        scale = axes.get(name)
        ticks = [("best", 1.0), ("worst", 0.0)] if scale is None else _ticks(scale)
        side = 1 if scale is None else -1
        for text, height in ticks:
            ax.annotate(text, (i, height), xytext=(4 * side, 0), textcoords="offset points", va="center", fontsize=7,
                        ha="left" if side > 0 else "right", color=MUTED, zorder=4,
                        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6})
    ax.set_xlim(-0.5, len(names) + 0.45)
    ax.set_ylim(-0.07, 1.07)
    ax.xaxis.set_major_locator(FixedLocator(across.tolist()))
    ax.xaxis.set_major_formatter(FixedFormatter([
        *(in_lines(setting_label(name), AXIS_LINE) for name in names), "place in\nits search"]))
    ax.tick_params(axis="x", length=0, labelsize=7.5, labelcolor=INK)
    ax.yaxis.set_major_locator(NullLocator())
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.grid(visible=False)
    ax.set_title(in_lines(title, 40))
    return ax


def _ticks(scale: SettingScale) -> list[tuple[str, float]]:
    if scale.kind != "choice":
        return [(value_label(scale.low), 0.0), (value_label(scale.high), 1.0)]
    last = max(1, len(scale.choices) - 1)
    return [(value_label(choice), i / last) for i, choice in enumerate(scale.choices)]


def importance_bars(frame: pd.DataFrame, *, ax: Axes | None = None, title: str = "",
                    backbones: Sequence[str] = ()) -> Axes:
    """Share of variance per setting, a bar per backbone; hollow where the forest does not predict (r2 at 0 or below).

    ``frame``: setting, backbone, share, r2.
    """
    ax = ax if ax is not None else new_axes(2.9, 2.4)
    order = list(backbones) or list(dict.fromkeys(frame["backbone"]))
    names = frame.groupby("setting", sort=False)["share"].mean().sort_values(ascending=False, kind="stable").index
    height = 0.76 / len(order)
    for i, backbone in enumerate(order):
        rows = frame[frame["backbone"].eq(backbone)]
        places = np.array([list(names).index(name) for name in rows["setting"]]) + (i + 0.5) * height - 0.38
        color = BAR_COLORS[i % len(BAR_COLORS)]
        told = rows["r2"].to_numpy(float) > 0
        for mask, face in ((told, color), (~told, "none")):
            if mask.any():
                ax.barh(places[mask], rows["share"].to_numpy(float)[mask], 0.9 * height, facecolor=face,
                        edgecolor=color, lw=1.0)
    ax.yaxis.set_major_locator(FixedLocator(list(range(len(names)))))
    ax.yaxis.set_major_formatter(FixedFormatter([in_lines(setting_label(name), 16) for name in names]))
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", visible=True)
    ax.set_title(in_lines(title, TITLE_LINE))
    ax.set_xlabel("share of variance")
    return ax


BAR_COLORS = [BLUE, "#e69f00", "#009e73", "#cc79a7"]


def bar_entries(backbones: Sequence[str]) -> list[Entry]:
    """Legend of ``importance_bars``."""
    return [Entry(backbone_label(name), BAR_COLORS[i % len(BAR_COLORS)], "s") for i, name in enumerate(backbones)]


def slopes(frame: pd.DataFrame, *, metric: str, ax: Axes | None = None, title: str = "",
           methods: Sequence[str] = ()) -> Axes:
    """Mean score of every method with its recipe and with the settings found, 95 % intervals.

    ``frame``: method, recipe, recipe_lo, recipe_hi, tuned, tuned_lo, tuned_hi (of ``search_tables.gains``).
    """
    ax = ax if ax is not None else new_axes()
    order = list(methods) or list(dict.fromkeys(frame["method"]))
    for i, method in enumerate(order):
        style = method_style(method, order)
        shift = 0.035 * (i - (len(order) - 1) / 2)
        for row in frame[frame["method"].eq(method)].to_dict("records"):
            x, y = [shift, 1 + shift], [row["recipe"], row["tuned"]]
            ax.plot(x, y, color=style.color, marker=style.marker, ms=5.5, lw=1.5, ls=line_dashes(style.dashes),
                    zorder=3)
            lows, highs = ([row[f"{word}_{end}"] for word in ("recipe", "tuned")] for end in ("lo", "hi"))
            if np.isfinite([*lows, *highs]).all():
                ax.vlines(x, lows, highs, color=style.color, lw=1.2, alpha=0.85, zorder=2)
    ax.set_xlim(-0.25, 1.25)
    ax.xaxis.set_major_locator(FixedLocator([0, 1]))
    ax.xaxis.set_major_formatter(FixedFormatter(["recipe", "tuned"]))
    ax.tick_params(axis="x", length=0, labelcolor=INK)
    ax.set_title(in_lines(title, 40))
    ax.set_ylabel(in_lines(metric, NAME_LINE))
    for place in (0, 1):
        ax.axvline(place, color=RULE, lw=0.8, zorder=0)
    return ax
