"""Do label-free metrics follow the score: one plot, one sentence and one table per metric."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ablation.analysis import figures
from ablation.analysis.bundle import Bundle, limits
from ablation.analysis.correlation import within_correlation
from ablation.analysis.document import Block, Heading, Note, Plot, Section, Table, Text, code
from ablation.analysis.findings import method_order
from ablation.analysis.formats import p_value, signed2, signed_range, whole, words
from ablation.analysis.sections.view import StudyView
from ablation.analysis.selectors import correlate
from ablation.analysis.style import context_entries, level_order, method_style
from ablation.analysis.tables import CELL, self_supervised

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SELECTORS = ["label_free/rankme", "label_free/rankme_embedding"]
MIN_FOR_RHO = 5
"""Least trials of one method and backbone for a panel to show a correlation."""


def section(view: StudyView, bundle: Bundle) -> Section:
    """Each of ``SELECTORS`` that was measured beside the score."""
    blocks: list[Block] = []
    rows = []
    for selector in SELECTORS:
        x, y = f"metrics.{selector}", view.column
        if x not in view.done or y not in view.done:
            continue
        points = view.done[np.isfinite(view.done[[x, y]].to_numpy(float)).all(axis=1)]
        if points.empty:
            continue
        points = self_supervised(points)
        table = correlations(points, selector, view.metric)
        rows.append(table.assign(selector=selector, metric=view.metric))
        sentence = correlation_sentence(table.iloc[0], selector, view.metric)
        blocks += [Heading(code(selector)), Text(sentence), _scatter(points, x, y, bundle), _table(table, selector)]
    columns = ["selector", "metric", "level", "n", "rho", "lo", "hi", "p", "note"]
    bundle.table("correlation", pd.concat(rows).reindex(columns=columns) if rows else pd.DataFrame(columns=columns))
    note = Note(
        "RankMe was proposed for comparing runs of one method: read the panels one at a time. Its ceiling is the "
        "feature width, so that values of different backbones or projectors share no scale. The ρ above a panel ranks "
        "trials only against trials of the same backbone, over levels and seeds. Between methods n is the number of "
        "methods, and the pooled value mixes differences of method, backbone and data; neither says how to choose a "
        "run. Supervised trials are left out."
    )
    missing = Text(f"No finished trial has RankMe and `{view.metric}`.")
    return Section("label-free", "Do label-free metrics follow the score?", (note, *blocks) if blocks else (missing,))


def _table(table: pd.DataFrame, selector: str) -> Table:
    return Table.from_frame(
        f"correlation-{selector.split('/')[-1]}",
        f"Rank correlation of {code(selector)} with the score",
        table,
        {
            "level": ("Level", words),
            "n": ("n", whole),
            "rho": ("Spearman ρ", signed2),
            ("lo", "hi"): ("95 % interval", signed_range),
            "p": ("p", p_value),
            "note": ("Note", words),
        },
    )


def _scatter(points: pd.DataFrame, x: str, y: str, bundle: Bundle) -> Plot:
    levels, backbones = level_order(points["imbalance"].tolist()), sorted(set(points["backbone"]))
    span = limits(points[y])

    def panel(method: str) -> Callable[[Axes], object]:
        rows = points[points["method"] == method]
        groups = rows["backbone"].to_numpy(str)
        rho = within_correlation(rows[x].to_numpy(float), rows[y].to_numpy(float), groups, num_perm=0).rho
        shown = np.isfinite(rho) and rows["backbone"].value_counts().max() >= MIN_FOR_RHO
        note = (f"ρ = {signed2(rho)}, " if shown else "") + f"n = {len(rows)}"

        def draw(ax: Axes) -> None:
            figures.selector_scatter(
                rows, x, y, ax=ax, title=method_style(method).label, note=note, levels=levels, backbones=backbones
            )
            ax.set_ylim(*span)

        return draw

    selector, metric = x.removeprefix("metrics."), y.removeprefix("metrics.")
    return bundle.plot(
        x.split("/")[-1],
        f"{code(selector)} against {code(metric)}, one point per trial.",
        [(f"{selector} against {metric}, one point per {m} trial", panel(m)) for m in method_order(points)],
        legend=context_entries(levels, backbones),
    )


WITHIN = {
    CELL: "within cell (method, backbone, level)",
    ("method", "backbone"): "within method × backbone",
    ("method",): "within method",
}
"""Inside which groups trials are ranked, headline first: the level moves score and metric, and backbones differ in
width, hence in RankMe's ceiling."""


def correlations(trials: pd.DataFrame, selector: str, metric: str) -> pd.DataFrame:
    """``selectors.correlate`` at several groupings as one table, headline first, ``level`` named in words."""
    parts = {group: correlate(trials, selector, metric, group=list(group)) for group in WITHIN}
    rows = []
    for group, name in WITHIN.items():
        part = parts[group]
        rows.append(part[part["level"] == "within"].assign(level=name))
        given = "level" if "backbone" in group else "level and backbone"
        rows.append(part[part["level"] == "partial"].assign(level=f"{name}, given {given}"))
    others = {"between": "between methods", "pooled": "pooled", "pooled_partial": "pooled, given level and backbone"}
    rest = parts["method",]
    rows.append(rest[rest["level"].isin(list(others))].replace({"level": others}))
    table = pd.concat(rows, ignore_index=True)
    return table.assign(note=table["note"].where(table["rho"].notna(), "too few trials per group, or no spread"))


def correlation_sentence(row: pd.Series, selector: str, metric: str) -> str:
    """What one row of ``correlations`` allows one to say."""
    rho, lo, hi, p, n, groups = (float(row[name]) for name in ("rho", "lo", "hi", "p", "n", "num_groups"))
    if not math.isfinite(rho):
        return f"Too few comparable trials to say whether {selector} follows {metric}."
    told = p <= 0.05 and (lo > 0 or hi < 0)
    p_text = "< 0.001" if p < 0.001 else f"= {p:.3f}"
    interval_text = f"95 % interval {lo:+.2f} to {hi:+.2f}, " if math.isfinite(lo) else ""
    span = f"ρ = {rho:+.2f}, {interval_text}permutation p {p_text}, n = {int(n)} trials in {int(groups)} cells"
    span = span.replace("-", "−")
    if not told:
        return (
            f"Among trials of one method, backbone and level, these data do not tell an association between {selector} "
            f"and {metric} from none ({span})."
        )
    return (
        f"Among trials of one method, backbone and level, a higher {selector} goes with a "
        f"{'higher' if rho > 0 else 'lower'} {metric} ({span}). That an association is there does not show that "
        f"choosing by {selector} picks good encoders."
    )
