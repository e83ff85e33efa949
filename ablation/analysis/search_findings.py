"""What searches say, in sentences that never claim more than their seeds support."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ablation.analysis.document import code
from ablation.analysis.formats import number, signed3, whole
from ablation.analysis.search_tables import is_labelled, rank_agreement
from ablation.analysis.style import method_style

MOST_NAMED = 3
"""Pairs of methods that a sentence names."""


def budget_sentence(table: pd.DataFrame) -> str:
    """Whether the searches of ``search_tables.accounting`` have spent the same."""
    count = len(table)
    if count == 1:
        row = table.iloc[0]
        return (f"One search: {row['candidates']} candidates, {whole(row['epochs'])} epochs, {whole(row['images'])} "
                "training images.")
    # A budget is kept to one epoch: the last one begun is finished.
    slack = {"candidates": 0.0, "epochs": 1.0, "images": float((table["images"] / table["epochs"].clip(lower=1)).max())}
    same: list[str] = []
    other: list[str] = []
    for name, most in slack.items():
        low, high = table[name].min(), table[name].max()
        span = whole(high) if low == high else f"{whole(low)} to {whole(high)}"
        (same if high - low <= most else other).append(f"{span} {name.replace('images', 'training images')}")
    running = int((table["running"] > 0).sum())
    ends = f" {running} of them are not finished yet, so this is not their whole budget." if running else ""
    if not other:
        return f"The budget is equal: each of {count} searches has had {_listed(same)}.{ends}"
    if same:
        return (f"Each of {count} searches has had {_listed(same)}; beyond that they differ: {_listed(other)}.{ends}")
    return f"The budget is **not** equal: {count} searches have had {_listed(other)}.{ends}"


def ranking_sentence(found: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Whether the ranking changes, from ``search_tables.gains`` and ``exchanges``."""
    if pairs.empty:
        return "Fewer than two self-supervised methods have trials in both arms: there is no ranking to compare."
    total, swapped, shown = len(pairs), pairs[pairs["swapped"]], pairs[pairs["shown"]]
    start = f"Over {len(found[found['rank_recipe'].notna()])} methods, {_n(pairs['n'])} each"
    tau = f"Kendall's τ between the two rankings is {number(rank_agreement(found), '+.2f')}"
    if pairs["recipe_lo"].isna().any():
        changes = f"{len(swapped)} of {total} pairs of methods change" if len(swapped) else "no pair changes"
        return f"{start}: {changes} places, {tau}. These are too few seeds for intervals: another seed may change this."
    kept = f"{int(pairs['kept'].sum())} of {total} orders hold beyond doubt with both"
    if len(shown):
        named = "; ".join(_exchange(row, pairs) for row in shown.head(MOST_NAMED).to_dict("records"))
        more = f" {len(swapped) - len(shown)} further pairs change places within the noise." if len(swapped) > len(
            shown) else ""
        return f"{start}: **tuning changes the ranking**. {named}.{more} {tau}; {kept}."
    if len(swapped):
        return (f"{start}: {len(swapped)} of {total} pairs of methods change places, none beyond doubt, so a change of "
                f"the ranking is not shown. {tau}; {kept}.")
    return f"{start}: no pair of methods changes places. {tau}; {kept}."


def _exchange(row: dict[Any, Any], pairs: pd.DataFrame) -> str:
    names = list(dict.fromkeys([*pairs["a"], *pairs["b"]]))
    first, second = (method_style(row[side], names).label for side in ("a", "b"))
    if row["recipe"] < 0:
        first, second = second, first
    ahead, behind = abs(row["recipe"]), abs(row["tuned"])
    return f"{first} leads {second} by {ahead:.3f} with the recipes and is {behind:.3f} behind after tuning"


def tuning_sentence(table: pd.DataFrame, metric: str) -> str:
    """What tuning by labels gains, and what each label-free objective costs, of ``search_tables.tuning``."""
    known = table[table["n"] > 0]
    if known.empty:
        return "No trial on fresh seeds has finished in both arms yet."
    labelled = known[known["objective"].map(is_labelled)]
    parts = [f"On fresh seeds tuning by {code(row['objective'])} changes {code(metric)} by {signed3(row['gain'])}"
             f"{_span(row['gain_lo'], row['gain_hi'])}, n = {whole(row['n'])}{_doubt(row['gain_lo'], row['gain_hi'])}."
             for row in labelled.to_dict("records")]
    for row in known[known["num_regret"] > 0].to_dict("records"):
        cost = f"Tuning by {code(row['objective'])} instead costs {signed3(row['regret'])}{_span(row['lo'], row['hi'])}"
        if math.isfinite(row["kept"]):
            share = f"{_percent(row['kept'])} % ({_percent(row['kept_lo'])} to {_percent(row['kept_hi'])})"
            parts.append(f"{cost}: it keeps {share} of what labelled tuning gains.")
        else:
            parts.append(f"{cost}; a gain of labelled tuning is not shown, so there is no share to keep.")
    if labelled.empty:
        parts = [f"Tuning by {code(row['objective'])} changes {code(metric)} by {signed3(row['gain'])}"
                 f"{_span(row['gain_lo'], row['gain_hi'])}, n = {whole(row['n'])}"
                 f"{_doubt(row['gain_lo'], row['gain_hi'])}." for row in known.to_dict("records")]
        parts.append("No search was driven by labels, so the cost of doing without is unknown.")
    return " ".join(parts)


def _span(lo: float, hi: float) -> str:
    return f" ({signed3(lo)} to {signed3(hi)})" if math.isfinite(lo) and math.isfinite(hi) else ""


def _doubt(lo: float, hi: float) -> str:
    if not math.isfinite(lo):
        return ", too few seeds for an interval"
    return "" if lo > 0 or hi < 0 else ": neither a gain nor a loss is shown"


def _percent(share: float) -> str:
    return number(100 * share, ".0f")


def _n(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
