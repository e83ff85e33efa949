"""What matters more: variance of the score by factor, and what rarity costs each method."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pandas as pd

from ablation.analysis import factors, interval_figures
from ablation.analysis.bundle import Bundle
from ablation.analysis.document import Block, Cell, Note, Row, Section, Table, Text, code
from ablation.analysis.findings import prevalences
from ablation.analysis.formats import p_value, signed_spanned, spanned, whole, words
from ablation.analysis.sections.view import StudyView
from ablation.analysis.style import level_label, level_order, method_entries, method_style
from ablation.analysis.tables import self_supervised
from ablation.errors import NothingMatched


def section(view: StudyView, bundle: Bundle) -> Section | None:
    """Omega squared, swings and drops of the self-supervised methods; None where there is nothing to compare."""
    trials = self_supervised(view.trials)
    blocks: list[Block] = []
    try:
        table = factors.variance(trials, view.metric)
    except NothingMatched as reason:
        if view.done.empty:
            return None
        blocks.append(Text(f"The score cannot be split into factors: {reason}."))
    else:
        bundle.table("variance", table)
        blocks += _variance_blocks(table, view, bundle)
    if view.trials["imbalance"].nunique() > 1 and len(view.done):
        found = factors.drop(view.trials, view.metric)
        bundle.table("drop", found)
        blocks += _drop_blocks(found, view, bundle)
    return Section("factors", "What moves the score", tuple(blocks)) if blocks else None


def _variance_blocks(table: pd.DataFrame, view: StudyView, bundle: Bundle) -> list[Block]:
    effects = table[table["term"] != "residual"]
    names = effects["term"].str.replace(":", " × ", regex=False).str.replace("params.", "", regex=False)
    frame = effects.assign(name=names, value=effects["omega2"])
    single = effects[~effects["term"].str.contains(":")].sort_values("swing", ascending=False, kind="stable")
    text = ", ".join(f"{row['term']} {row['swing']:.3f}" + (
        f" ({row['swing_lo']:.3f} to {row['swing_hi']:.3f})" if row["swing_lo"] == row["swing_lo"] else "")
        for row in single.to_dict("records"))
    note = str(table["note"].iloc[0])
    blocks: list[Block] = [
        Text(f"Typical swing of `{view.metric}` when one factor alone changes, noise removed: {text}; "
             f"n = {int(table['n'].iloc[0])} trials." if single["swing"].notna().any() else
             f"One seed per cell: the swing of `{view.metric}` cannot be told from noise."),
        Note("ω² is the share of the variance of the score that a factor or interaction explains; the rest is seed "
             "noise. A factor with many values has more room to explain, so read ω² beside the swing, which is "
             "in units of the score. Self-supervised methods only; nothing is claimed about methods that were not run."
             + (f" {note[0].upper()}{note[1:]}." if note else ""))]
    blocks.append(bundle.plot("variance", "Shares of variance, 95 % intervals.", [(
        "Omega squared of every factor and interaction",
        lambda ax: interval_figures.forest(frame, ax=ax, xlabel="ω²", reference=0.0))], kind="wide"))
    blocks.append(Table.from_frame("variance", f"Analysis of variance of {code(view.metric)}", table, {
        "term": ("Factor", words), "df": ("df", whole), ("omega2", "lo", "hi"): ("ω²", spanned),
        "p": ("p (F test)", p_value), ("swing", "swing_lo", "swing_hi"): ("Swing", spanned)}))
    return blocks


def _drop_blocks(found: pd.DataFrame, view: StudyView, bundle: Bundle) -> list[Block]:
    share = prevalences(view.trials)
    order = list(dict.fromkeys(found["method"]))
    drawn = found[found["value"].notna() & found["imbalance"].map(share).notna()]
    blocks: list[Block] = [Note(
        "What rarity costs: each method against itself at the most balanced level, paired by seed over the "
        "backbones. Supervised training, which sees the labels, is the reference.")]
    if len(drawn):
        blocks.append(bundle.plot("drop", f"Change of `{view.metric}` against the most balanced level.", [(
            "Change of the score at every level, one line per method",
            lambda ax: interval_figures.drop_lines(drawn, share, metric=view.metric, ax=ax))], kind="wide",
            legend=method_entries(order)))
    blocks.append(_drop_table(found, order, view))
    return blocks


def _drop_table(found: pd.DataFrame, order: list[str], view: StudyView) -> Table:
    """Methods by levels."""
    cells = {(row["method"], row["imbalance"]): row for row in found.to_dict("records")}
    levels = level_order(found["imbalance"].tolist())
    rows = tuple(Row((method_style(method, order).label, *(_drop_cell(cells[method, level]) for level in levels)))
                 for method in order)
    against = level_label(str(found["note"].iloc[0]).removeprefix("against "))
    return Table("drop", f"Drop of {code(view.metric)} from {against}", ("Method", *map(level_label, levels)), rows,
                 "Positive: worse than at the most balanced level. n counts pairs of trials of equal seed.")


def _drop_cell(row: dict[Hashable, Any]) -> Cell:
    shown = signed_spanned(row["value"], row["lo"], row["hi"])
    return Cell(shown.text, shown.interval, (f"n = {row['n']}",))
