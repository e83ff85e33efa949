"""The score of every method at every level of imbalance: drawn, and as tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ablation.analysis import figures
from ablation.analysis.bundle import Bundle, limits
from ablation.analysis.document import Block, Cell, Note, Row, Section, Table, Text, code
from ablation.analysis.findings import UNFINISHED, flag_names, method_order, prevalences
from ablation.analysis.formats import interval
from ablation.analysis.sections.view import StudyView
from ablation.analysis.style import (
    SUPERVISED,
    backbone_label,
    in_lines,
    level_label,
    level_order,
    method_entries,
    method_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Value = tuple[float, float, float, int]
"""Mean, ends of its interval (NaN below n = 3) and n of one cell."""


def plot(view: StudyView, bundle: Bundle) -> Section:
    """Score against imbalance, one panel per backbone."""
    share = prevalences(view.trials)
    known = [level for level, p in share.items() if np.isfinite(p)]
    drawn = view.cells[view.cells["imbalance"].isin(known)]
    if drawn.empty:
        missing = (
            f"No finished trial has `{view.metric}` yet."
            if view.cells.empty
            else "The prevalence of the natural level was not recorded, so there is no axis to draw it on."
        )
        return Section("scores", "Score against imbalance", (Text(missing),))
    drawn = drawn.assign(prevalence=drawn["imbalance"].map(share))
    start = view.baseline[view.baseline["imbalance"].isin(known)]
    start = start.assign(prevalence=start["imbalance"].map(share))
    methods = [m for m in method_order(view.trials) if m in set(drawn["method"])]
    span = limits(pd.concat([drawn["value"], drawn["lo"], drawn["hi"], start["value"]]))

    def panel(backbone: str) -> Callable[[Axes], object]:
        def draw(ax: Axes) -> None:
            figures.score_vs_imbalance(
                drawn[drawn["backbone"] == backbone],
                metric=view.metric,
                ax=ax,
                methods=methods,
                baseline=start[start["backbone"] == backbone],
                limits=span,
                legend=False,
            )
            ax.set_title(in_lines(backbone_label(backbone), 40))

        return draw

    backbones = [b for b in view.trials["backbone"].drop_duplicates() if b in set(drawn["backbone"])]
    title = (
        f"{view.metric} against the share of defects in pre-training, %s: one line per method; "
        "the numbers are in the score tables"
    )
    block = bundle.plot(
        "score_vs_imbalance",
        f"Mean `{view.metric}` on the fixed test set, over the share of defects among the images used for pre-training."
        " Vertical bars are 95 % intervals over trials; a hollow marker is a single trial (n = 1); below n = 3 no "
        "interval is drawn. Methods are set apart sideways a little so that bars do not hide each other.",
        [(title % backbone_label(b), panel(b)) for b in backbones],
        kind="wide",
        legend=method_entries(methods, baseline=len(start) > 0),
    )
    return Section("scores", "Score against imbalance", (block,))


def table(view: StudyView, bundle: Bundle) -> Section:
    """One table per backbone with every planned cell, those without a finished trial included."""
    bundle.table("trials", view.trials)
    bundle.table("scores", view.planned)
    blocks: list[Block] = [
        Note(
            "Mean, 95 % interval and n trials. Bold: among the self-supervised methods of a level, the "
            f"{'highest' if view.higher else 'lowest'} mean and every other mean inside its 95 % interval, so that "
            "bold says: not told apart from the best. Where the best has no interval, it alone is bold; bold is not a "
            "test. Trials that did not finish are counted in their cell, not left out."
        )
    ]
    return Section("table", "Scores by method and imbalance", (*blocks, *score_tables(view)))


def score_tables(view: StudyView) -> list[Table]:
    """Methods by levels, one table per backbone; the references come last."""
    levels = level_order(view.trials["imbalance"].tolist())
    return [
        Table(
            f"scores-{i}",
            f"{backbone_label(backbone)}: mean {code(view.metric)}",
            ("Method", *map(level_label, levels)),
            tuple(_rows(view, backbone, levels)),
            "Bold: not told apart from the best self-supervised mean of the level.",
        )
        for i, backbone in enumerate(view.trials["backbone"].drop_duplicates())
    ]


def _rows(view: StudyView, backbone: str, levels: list[object]) -> list[Row]:
    trials = view.trials[view.trials["backbone"] == backbone]
    cells = view.cells[view.cells["backbone"] == backbone]
    values: dict[tuple[str, object], Value] = {
        (row["method"], row["imbalance"]): (float(row["value"]), float(row["lo"]), float(row["hi"]), int(row["n"]))
        for row in cells.to_dict("records")
    }
    bold = {(method, level) for level in levels for method in _leaders(values, level, view.higher)}
    methods, rows = method_order(view.trials), []
    for method in methods:
        mine = trials[trials["method"] == method]
        line = [
            _cell(mine[mine["imbalance"] == level], values.get((method, level)), (method, level) in bold)
            for level in levels
        ]
        kind = "supervised" if method == SUPERVISED else ""
        rows.append(Row((method_style(method, methods).label, *line), kind))
    start = view.baseline[view.baseline["backbone"] == backbone].to_dict("records")
    known = {row["imbalance"]: Cell(f"{row['value']:.3f}", notes=(f"n = {row['n']}",)) for row in start}
    if known:
        rows.append(Row(("Random init", *(known.get(level, Cell("")) for level in levels)), "baseline"))
    return rows


def _leaders(values: dict[tuple[str, object], Value], level: object, higher: bool) -> set[str]:
    """The best self-supervised method of the level, and those whose mean lies inside its interval."""
    means = {m: v for (m, at), v in values.items() if at == level and m != SUPERVISED}
    if not means:
        return set()
    best = (max if higher else min)(v[0] for v in means.values())
    _, lo, hi, n = next(v for v in means.values() if v[0] == best)
    inside = n > 1 and math.isfinite(lo) and math.isfinite(hi)
    return {m for m, v in means.items() if v[0] == best or (inside and lo <= v[0] <= hi)}


def _cell(planned: pd.DataFrame, known: Value | None, bold: bool) -> Cell:
    if planned.empty:
        return Cell("", problems=("not planned",))
    notes = problems(planned)
    if known is None:
        return Cell("", problems=tuple(notes) or ("no value",))
    value, lo, hi, n = known
    flags = sorted({flag for text in planned["flags"] for flag in flag_names(text)})
    stand_out = (*notes, *(f"flag: {flag}" for flag in flags))
    return Cell(f"{value:.3f}", interval(lo, hi, n, value), (f"n = {n}",), stand_out, bold)


def problems(rows: pd.DataFrame) -> list[str]:
    """What did not finish in these trials, e.g. ``1 of 3 failed: diverged``."""
    notes = []
    for state, word in UNFINISHED.items():
        count = int((rows["state"] == state).sum())
        if count:
            reasons = sorted({str(r) for r in rows.loc[rows["state"] == state, "reason"].dropna() if str(r)})
            share = f"{count} of {len(rows)} " if len(rows) > 1 else ""
            notes.append(f"{share}{word}" + (f": {', '.join(reasons)}" if reasons and state != "RUNNING" else ""))
    return notes


