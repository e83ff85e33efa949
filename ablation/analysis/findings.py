"""What a study says, in sentences and table cells that never claim more than its n supports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ablation.analysis.statistics import FEW_CLUSTERS
from ablation.analysis.style import SUPERVISED, backbone_label, level_label, level_order, method_style
from ablation.analysis.tables import CELL, correlate, higher_is_better

BASELINE = "metrics.random_init/auroc"
UNFINISHED = {
    "FAILED": "failed",
    "STOPPED": "stopped",
    "STALE": "stale",
    "RUNNING": "running",
    "PENDING": "not run yet",
}


@dataclass(frozen=True)
class Cell:
    """One (method, level) entry of a score table."""

    value: str = ""
    interval: str = ""
    n: str = ""
    best: bool = False
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ScoreTable:
    """Methods by levels for one backbone; ``rows`` are (label, kind ``ssl``, ``supervised`` or ``baseline``, cells)."""

    backbone: str
    levels: list[str]
    rows: list[tuple[str, str, list[Cell]]]


def prevalences(trials: pd.DataFrame) -> dict[object, float]:
    """Share of defects per level; that of ``natural`` is measured from the subsets, NaN when no trial recorded one."""
    shares: dict[object, float] = {}
    for level, rows in trials.groupby("imbalance", sort=False):
        if not isinstance(level, str):
            shares[level] = float(level)  # type: ignore[arg-type]
            continue
        counts = rows.reindex(columns=["num_defects", "num_normals"]).apply(pd.to_numeric).dropna()
        share = counts["num_defects"] / counts.sum(axis=1) if len(counts) else pd.Series([math.nan])
        shares[level] = float(share.mean())
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


def interval(lo: float, hi: float, n: int, value: float | None = None) -> str:
    """``± 0.012`` for a symmetric interval, ``0.81 to 0.84`` else, nothing for n = 1."""
    if n < 2 or not (math.isfinite(lo) and math.isfinite(hi)):
        return ""
    if value is not None and abs((hi - value) - (value - lo)) < 5e-4:
        return f"± {(hi - lo) / 2:.3f}"
    return f"{lo:.3f} to {hi:.3f}"


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


def score_tables(trials: pd.DataFrame, cells: pd.DataFrame, baseline: pd.DataFrame, metric: str) -> list[ScoreTable]:
    """One table per backbone with every planned cell, failed ones included. Best = best SSL mean."""
    sign = 1 if higher_is_better(metric) else -1
    levels = level_order(trials["imbalance"].tolist())
    methods = method_order(trials)
    by_cell = {
        tuple(row[:3]): row for row in cells[[*CELL, "value", "lo", "hi", "n"]].itertuples(index=False, name=None)
    }
    tables = []
    for backbone in trials["backbone"].drop_duplicates():
        means = {
            (m, lv): sign * by_cell[m, backbone, lv][3]
            for m in methods
            for lv in levels
            if (m, backbone, lv) in by_cell
        }
        best = {
            lv: max((v for (m, at), v in means.items() if at == lv and m != SUPERVISED), default=None) for lv in levels
        }
        rows = []
        for method in methods:
            line = []
            for level in levels:
                planned = trials[
                    (trials["method"] == method) & (trials["backbone"] == backbone) & (trials["imbalance"] == level)
                ]
                line.append(
                    _cell(
                        planned,
                        by_cell.get((method, backbone, level)),
                        method != SUPERVISED and (method, level) in means and means[method, level] == best[level],
                    )
                )
            rows.append((method_style(method, methods).label, "supervised" if method == SUPERVISED else "ssl", line))
        known = {row.imbalance: row for row in baseline[baseline["backbone"] == backbone].itertuples()}
        if known:
            rows.append(
                (
                    "Random init",
                    "baseline",
                    [
                        Cell(f"{known[lv].value:.3f}", "", f"n = {known[lv].n}") if lv in known else Cell()
                        for lv in levels
                    ],
                )
            )
        tables.append(ScoreTable(backbone_label(backbone), [level_label(level) for level in levels], rows))
    return tables


def _cell(planned: pd.DataFrame, row: tuple[object, ...] | None, best: bool) -> Cell:
    if planned.empty:
        return Cell(problems=["not planned"])
    notes = problems(planned)
    if row is None:
        return Cell(problems=notes or ["no value"])
    value, lo, hi, n = (float(v) for v in row[3:7])  # type: ignore[arg-type]
    flags = sorted({flag for text in planned["flags"] for flag in flag_names(text)})
    return Cell(
        f"{value:.3f}", interval(lo, hi, int(n), value), f"n = {int(n)}", best, notes + [f"flag: {f}" for f in flags]
    )


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


WITHIN = {
    ("method", "backbone"): "within method × backbone",
    ("method",): "within method",
    CELL: "within cell (seeds only)",
}
"""Inside which groups trials are ranked, headline first. Backbones differ in width, hence in RankMe's ceiling."""


def correlations(trials: pd.DataFrame, selector: str, metric: str) -> pd.DataFrame:
    """``tables.correlate`` at several groupings as one table: columns level, n, rho, lo, hi, p, num_groups, note."""
    parts = [correlate(trials, selector, metric, group=list(group)) for group in WITHIN]
    within = [
        part[part["level"] == "within"].assign(level=name) for part, name in zip(parts, WITHIN.values(), strict=True)
    ]
    by_method = parts[list(WITHIN).index(("method",))]
    others = by_method[by_method["level"] != "within"].replace(
        {"level": {"between": "between methods", "pooled": "pooled"}}
    )
    table = pd.concat([*within, others], ignore_index=True)
    return table.assign(note=table["note"].where(table["rho"].notna(), "too few trials per group, or no spread"))


def correlation_sentence(row: pd.Series, selector: str, metric: str) -> str:
    """What one row of ``correlations`` allows one to say: by its interval, or by its p where groups are few."""
    rho, lo, hi, p, n, groups = (float(row[name]) for name in ("rho", "lo", "hi", "p", "n", "num_groups"))
    if not math.isfinite(rho):
        return f"Too few comparable trials to say whether {selector} follows {metric}."
    # Both must agree: an interval over few groups is too narrow, a small p alone says nothing about size.
    told = p <= 0.05 and (lo > 0 or hi < 0)
    p_text = "< 0.001" if p < 0.001 else f"= {p:.3f}"
    interval_text = "" if groups < FEW_CLUSTERS or not math.isfinite(lo) else f"95 % interval {lo:+.2f} to {hi:+.2f}, "
    span = f"ρ = {rho:+.2f}, {interval_text}permutation p {p_text}, n = {int(n)} trials in {int(groups)} groups"
    span = span.replace("-", "−")
    if not told:
        return (
            f"Among trials of one method and backbone, these data do not tell an association between {selector} and "
            f"{metric} from none ({span})."
        )
    return (
        f"Among trials of one method and backbone, a higher {selector} goes with a {'higher' if rho > 0 else 'lower'} "
        f"{metric} ({span}). Levels and seeds both vary in these groups, and an association does not show that "
        f"choosing by {selector} picks good encoders."
    )


def shared(trials: pd.DataFrame, prefix: str = "provenance.") -> list[tuple[str, str]]:
    """Provenance fields as (name, value); differing values are counted, so that a mixed study shows."""
    rows = []
    for column in (c for c in trials.columns if c.startswith(prefix)):
        values: Sequence[object] = [v for v in trials[column].dropna().tolist() if v != ""]
        counts = pd.Series([str(v) for v in values]).value_counts().sort_index()
        if len(counts) == 1:
            rows.append((column.removeprefix(prefix), str(counts.index[0])))
        elif 1 < len(counts) <= 6:
            rows.append((column.removeprefix(prefix), "mixed: " + ", ".join(f"{v} ({c}×)" for v, c in counts.items())))
        elif len(counts):
            rows.append((column.removeprefix(prefix), f"{len(counts)} different values"))
    return rows
