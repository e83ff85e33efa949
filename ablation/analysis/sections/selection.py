"""Choosing a model without labels: all label-free metrics side by side, and what a choice by each costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ablation.analysis import interval_figures, selectors, statistics
from ablation.analysis.bundle import Bundle
from ablation.analysis.document import Block, Cell, Heading, Note, Section, Table, Text, code
from ablation.analysis.formats import fixed3, p_value, signed2, signed_range, signed_spanned, spanned, whole, words
from ablation.analysis.sections.view import StudyView
from ablation.analysis.tables import CELL, self_supervised
from ablation.errors import NothingMatched

CONTEXTS = {("method", "imbalance"): ("method", "backbones and seeds"),
            ("method", "backbone", "imbalance"): ("method on one backbone", "seeds")}
"""What a choice is made within, and among what."""


def section(view: StudyView, bundle: Bundle) -> Section | None:
    """Rank correlation within cells, and regret; None where no label-free metric was measured."""
    trials = selectors.with_clid(self_supervised(view.done))
    names = selectors.selectors_of(trials) if len(trials) else []
    if not names:
        return None
    blocks: list[Block] = []
    table = _correlations(trials, selectors.selectors_of(trials, own=True), view.metric)
    if len(table):
        bundle.table("selectors", table)
        blocks += _correlation_blocks(table, view, bundle)
    for within, (what, among) in CONTEXTS.items():
        try:
            costs = selectors.regret(trials, names, view.metric, within, scores=view.results.scores)
        except NothingMatched:
            blocks.append(Text(f"No {what} has two finished trials at one level to choose from."))
            continue
        name = "regret" if len(within) == 2 else "regret_seeds"
        bundle.table(name, costs)
        blocks += _regret_blocks(name, costs, what, among, view, bundle)
    return Section("selection", "Choosing a model without labels", tuple(blocks))


def _correlations(trials: pd.DataFrame, names: list[str], metric: str) -> pd.DataFrame:
    """One row per selector: within cells (headline), within method and backbone, between methods, pooled; Holm over
    the selectors."""
    rows = []
    for name in names:
        try:
            cells = selectors.correlate(trials, name, metric, CELL).set_index("level")
            wide = selectors.correlate(trials, name, metric, CELL[:2]).set_index("level")
            methods = selectors.correlate(trials, name, metric, CELL[:1]).set_index("level")
        except NothingMatched:
            continue
        head = dict(cells.loc["within"])
        row: dict[str, Any] = {"selector": name} | {key: head[key] for key in ("n", "rho", "lo", "hi", "tau", "p")}
        for label, found in (("wide", wide.loc["within"]), ("between", methods.loc["between"]),
                             ("pooled", methods.loc["pooled"])):
            row |= {label: found["rho"], f"{label}_lo": found["lo"], f"{label}_hi": found["hi"]}
        rows.append(row | {"num_methods": methods.loc["between", "n"],
                           "simpson": str(methods.loc["pooled", "note"]).startswith("Simpson")})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=statistics.holm(table["p"].to_numpy(float))) if len(table) else table


def _correlation_blocks(table: pd.DataFrame, view: StudyView, bundle: Bundle) -> list[Block]:
    shown = table[~table["selector"].str.startswith("label_free_own/")]
    drawn = shown[np.isfinite(shown["rho"])].sort_values("rho", ascending=False, kind="stable")
    blocks: list[Block] = [Note(
        "Spearman's ρ of each label-free metric with the score among trials of one method, backbone and level; hollow: "
        f"p > 0.05 after Holm over the {len(table)} metrics of the table. Trials of one level and seed share their "
        "pictures, so p and intervals move whole subsets, all methods together. `alpha_req` enters by its distance "
        "from 1, smaller = higher. `train/loss` is what every selector must beat. Within method and backbone the level "
        "moves both; between methods n is the number of methods; the pooled value mixes everything and says nothing "
        "about choosing a run. `label_free_own/`: on each trial's own images instead of one set for all.")]
    if len(drawn):
        frame = drawn.rename(columns={"selector": "name", "rho": "value"})
        blocks.append(bundle.plot(
            "selectors", f"Rank correlation with `{view.metric}` within cells, 95 % intervals.",
            [("Rank correlation of every label-free metric with the score", lambda ax: interval_figures.forest(
                frame, ax=ax, xlabel="Spearman's ρ", reference=0.0, filled=(frame["p_holm"] <= 0.05).tolist()))],
            kind="tall", height=interval_figures.forest_height(len(frame))))
    blocks.append(Table.from_frame("selectors", f"Label-free metrics against {code(view.metric)}", table, {
        "selector": ("Metric", code), "n": ("n", whole), ("rho", "lo", "hi"): ("ρ within cells", _with_range),
        "tau": ("Kendall τ", signed2), "p_holm": ("p (Holm)", p_value),
        ("wide", "wide_lo", "wide_hi"): ("Within method × backbone", _with_range),
        ("between", "between_lo", "between_hi"): ("Between methods", _with_range),
        ("pooled", "pooled_lo", "pooled_hi", "simpson"): ("Pooled", _pooled)}))
    return blocks


def _with_range(value: object, lo: object, hi: object) -> Cell:
    return Cell(signed2(value), notes=(signed_range(lo, hi),))


def _pooled(value: object, lo: object, hi: object, simpson: object) -> Cell:
    return Cell(signed2(value), notes=(signed_range(lo, hi),), problems=("Simpson's paradox",) if simpson else ())


def _regret_blocks(name: str, costs: pd.DataFrame, what: str, among: str, view: StudyView,
                   bundle: Bundle) -> list[Block]:
    blind = float(costs.loc[costs["selector"] == "random", "regret"].iloc[0])
    frame = costs.sort_values("regret", kind="stable").rename(columns={"selector": "name", "regret": "value"})
    told = ((frame["gain_lo"] > 0) | (frame["gain_hi"] < 0)).tolist()
    plot = bundle.plot(
        name, f"Regret in units of `{view.metric}`: what a choice by each selector loses against the best trial.",
        [(f"Regret of every selector, choosing among {among}", lambda ax: interval_figures.forest(
            frame, ax=ax, xlabel=f"regret ({view.metric})", reference=blind, reference_label="blind choice",
            filled=told))], kind="tall", height=interval_figures.forest_height(len(frame)))
    table = Table.from_frame(name, f"Selection regret, choosing among {among}", costs, {
        "selector": ("Selector", code), "n": ("Contexts", whole), ("regret", "lo", "hi"): ("Regret", spanned),
        ("gain", "gain_lo", "gain_hi"): ("Gain on a blind choice", signed_spanned),
        "p_holm": ("p (Holm)", p_value), "picked_best": ("Picked the best", fixed3), "note": ("Note", words)})
    caution = ""
    if "backbones" in among:
        caution = (" A metric that always prefers one backbone is right in every context if that backbone is better "
                   "everywhere: that is one fact, seen many times.")
    return [Heading(f"What a choice among {among} costs"), _verdict(costs, blind), Note(
        f"A context is one {what} at one level; the choice is among its {among}. The oracle has regret 0. "
        "`labelled_20` … choose by the probe's AUROC on that many labelled validation defects (mean over 50 "
        f"draws). Filled: the interval of the gain on a blind choice excludes 0.{caution}"), plot, table]


def _verdict(costs: pd.DataFrame, blind: float) -> Text:
    """What the label-free selectors gain, in one sentence."""
    free = costs[costs["selector"].str.startswith("label_free/")]
    better = free[(free["gain_lo"] > 0) & (free["p_holm"] <= 0.05)].sort_values("regret")
    start = f"Over {int(costs['n'].max())} contexts a blind choice loses {blind:.3f} on the best trial. "
    if better.empty:
        return Text(f"{start}No label-free metric chooses better than blindly beyond doubt (Holm over {len(free)}).")
    best = better.iloc[0]
    loss = costs[costs["selector"] == selectors.LOSS]
    beside = f"; choosing by the training loss loses {loss['regret'].iloc[0]:.3f}" if len(loss) else ""
    return Text(f"{start}{len(better)} of {len(free)} label-free metrics choose better than that beyond doubt (Holm), "
                f"first {code(best['selector'])} with a regret of {best['regret']:.3f}{beside}. Being the best of "
                f"{len(free)}, it is flattered by having been picked here.")
