"""What a study says, in sentences that never claim more than its n supports."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from ablation.analysis.formats import interval
from ablation.analysis.style import SUPERVISED, backbone_label, level_label, level_order, method_style
from ablation.analysis.tables import higher_is_better, prevalence

BASELINE = "metrics.random_init/auroc"
UNFINISHED = {
    "FAILED": "failed",
    "STOPPED": "stopped",
    "STALE": "stale",
    "RUNNING": "running",
    "PENDING": "not run yet",
}


def prevalences(trials: pd.DataFrame) -> dict[object, float]:
    """Share of defects per level; that of ``natural`` is measured from the subsets, NaN when no trial recorded one."""
    shares: dict[object, float] = prevalence(trials).groupby(trials["imbalance"], sort=False).mean().to_dict()
    return shares


def untrained(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Score of the untrained backbone: backbone, imbalance, value, n (seeds). Empty for metrics it does not match.

    All methods of a seed share one untrained backbone: it counts once, so that n is not inflated.
    """
    if metric != "probe/auroc" or BASELINE not in trials:
        return pd.DataFrame(columns=["backbone", "imbalance", "value", "n"])
    known = trials[np.isfinite(pd.to_numeric(trials[BASELINE]).to_numpy(float))]
    by_seed = known.groupby(["backbone", "imbalance", "seed"], sort=False)[BASELINE].mean().reset_index()
    cells = by_seed.groupby(["backbone", "imbalance"], sort=False)[BASELINE]
    frame: pd.DataFrame = cells.agg(value="mean", n="size").reset_index()
    return frame


def flag_names(flags: object) -> list[str]:
    """Flags of a trial as a list, whether the frame holds a list or a comma-separated text."""
    if isinstance(flags, str):
        return [flag for flag in (part.strip() for part in flags.split(",")) if flag]
    return [str(flag) for flag in flags] if isinstance(flags, (list, tuple, np.ndarray)) else []


def method_order(trials: pd.DataFrame) -> list[str]:
    """Methods as the study lists them, ``supervised`` last."""
    methods = trials["method"].drop_duplicates().tolist()
    return sorted(methods, key=lambda method: method == SUPERVISED)


def counts_sentence(trials: pd.DataFrame) -> str:
    states = trials["state"].value_counts()
    parts = [
        f"{states[state]} {word}" for state, word in {"FINISHED": "finished", **UNFINISHED}.items() if state in states
    ]
    shape = [
        _count(trials[column].nunique(), name)
        for column, name in (
            ("method", "method"),
            ("backbone", "backbone"),
            ("imbalance", "imbalance level"),
            ("seed", "seed"),
        )
    ]
    return f"{_count(len(trials), 'planned trial')} ({', '.join(shape)}): {', '.join(parts)}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _text(row: pd.Series) -> str:
    n, span = int(row["n"]), interval(row["lo"], row["hi"], int(row["n"]))
    return f"{row['value']:.3f} ({f'95 % interval {span}, ' if span else ''}n = {n})"


def _name(row: pd.Series) -> str:
    return f"{method_style(str(row['method'])).label} on {backbone_label(str(row['backbone']))}"


def level_findings(cells: pd.DataFrame, baseline: pd.DataFrame, metric: str) -> list[tuple[str, list[str]]]:
    """Per level: the best SSL cell, whether its rivals are told apart, and its distance to untrained and supervised."""
    better = higher_is_better(metric)
    found = []
    for level in level_order(cells["imbalance"].tolist()):
        here = cells[cells["imbalance"] == level]
        ssl = here[here["method"] != SUPERVISED].sort_values("value", ascending=not better, kind="stable")
        if ssl.empty:
            continue
        best, rivals = ssl.iloc[0], ssl.iloc[1:]
        place = f"leads {len(ssl)} self-supervised cells" if len(ssl) > 1 else "is the only self-supervised cell,"
        lead = f"{_name(best)} {place} with {_text(best)}."
        sentences = [lead, _rival_sentence(best, rivals)]
        sentences += _reference_sentences(best, here, baseline, level, better)
        found.append((level_label(level), [s for s in sentences if s]))
    return found


def _rival_sentence(best: pd.Series, rivals: pd.DataFrame) -> str:
    if rivals.empty:
        return ""
    if int(best["n"]) < 2 or (rivals["n"] < 2).all():
        return "One trial each: another seed may change this order."
    if not math.isfinite(best["lo"]):
        return f"The order is not settled: n = {int(best['n'])} is too few for an interval."
    measured = rivals[(rivals["n"] > 1) & np.isfinite(rivals["lo"].to_numpy(float))]
    if measured.empty:
        return "The order is not settled: no other cell has trials enough for an interval."
    overlap = measured[(measured["hi"] >= best["lo"]) & (measured["lo"] <= best["hi"])]
    if overlap.empty:
        return f"Its interval is apart from all {len(measured)} others."
    return (
        f"The order is not settled: its interval overlaps {len(overlap)} of {len(measured)} others, "
        f"first {_name(overlap.iloc[0])} at {overlap.iloc[0]['value']:.3f}."
    )


def _reference_sentences(
    best: pd.Series, here: pd.DataFrame, baseline: pd.DataFrame, level: object, better: bool
) -> list[str]:
    sign, out = (1 if better else -1), []
    start = baseline[(baseline["backbone"] == best["backbone"]) & (baseline["imbalance"] == level)]
    if len(start):
        gain = best["value"] - float(start["value"].iloc[0])
        untold = int(best["n"]) > 1 and best["lo"] <= float(start["value"].iloc[0]) <= best["hi"]
        verdict = f"{gain:.3f} above" if gain > 0 else f"{-gain:.3f} below"
        out.append(
            f"It lies {verdict} the same probe on the untrained backbone"
            f"{', which its interval does not exclude' if untold else ''}."
        )
    reference = here[here["method"] == SUPERVISED].sort_values("value", ascending=not better, kind="stable")
    if len(reference):
        gap = sign * (reference.iloc[0]["value"] - best["value"])
        out.append(
            f"{_name(reference.iloc[0])} reaches {_text(reference.iloc[0])}: "
            f"{abs(gap):.3f} {'better' if gap > 0 else 'worse'} than the best self-supervised cell."
        )
    return out
