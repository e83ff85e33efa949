"""Does a label-free number pick good models: correlation with the score, and what choosing by it costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ablation.analysis import correlation, statistics
from ablation.analysis.tables import column, labels, measured, preference, subset_units
from ablation.errors import NothingMatched

LOSS = "train/loss"
CLID = "label_free/clid"
LABELLED = (20, 50, 100)
"""Labelled defects that a choice by labels is granted."""
DRAWS = 50
"""Random labelled sets over which the regret of a choice by labels is averaged."""
Scores = Callable[[str], pd.DataFrame]


def with_clid(trials: pd.DataFrame) -> pd.DataFrame:
    """The frame with ``label_free/clid``: standardised cluster learnability plus standardised intrinsic dimension over
    the finished trials (Lu et al. 2022, arXiv 2206.01251). It belongs to the pool: other trials, other values."""
    parts = [f"metrics.label_free/{name}" for name in ("cluster_learnability", "two_nn")]
    if not set(parts) <= set(trials.columns):
        return trials
    values = trials[parts].where(trials["state"] == "FINISHED")
    spread = values.std(ddof=0)
    if not (spread > 0).all():
        return trials
    clid = ((values - values.mean()) / spread).sum(axis=1, skipna=False).rename(f"metrics.{CLID}")
    return pd.concat([trials.drop(columns=f"metrics.{CLID}", errors="ignore"), clid], axis=1)


def selectors_of(trials: pd.DataFrame, own: bool = False) -> list[str]:
    """Label-free metrics of the frame that may choose a model, and the loss that each of them must beat; with ``own``
    also those on each trial's own subset."""
    from trainers.evaluation.catalogue import METRICS

    families = ("label_free/", "label_free_own/") if own else ("label_free/",)
    found = [name for name in METRICS if f"metrics.{name}" in trials.columns and METRICS[name].better != "context"
             and name.startswith(families) and trials[f"metrics.{name}"].notna().any()]
    return found + ([LOSS] if f"metrics.{LOSS}" in trials.columns else [])


def correlate(trials: pd.DataFrame, x: str, y: str, group: str | Sequence[str] = "method", ci: float = 0.95,
              n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Rank correlation of two metrics: within groups, between group means, and pooled (which mixes both).

    Columns level, n, rho (Spearman), lo, hi, p, tau (Kendall's tau_b), num_groups, note. ``partial`` and
    ``pooled_partial`` are given level and backbone. A metric that is best near 1 enters by its distance from 1,
    smaller = higher. p of ``within`` and ``partial`` gives the scores of one pre-training subset to another of the
    same level, all methods and backbones together, since they share it; so do the intervals. Pooled values of a sign
    opposite to the one within are common (Simpson's paradox) and named so. RankMe's authors compare runs of one method
    only.
    """
    finished, columns = measured(with_clid(trials), x, y)
    names = [column(trials, name) for name in ([group] if isinstance(group, str) else group)]
    groups, what = labels(finished, names), " x ".join(names)
    left, right = (finished[name].to_numpy(float) for name in columns)
    left, right = _from_one(left, x), _from_one(right, y)
    units, strata = subset_units(finished)
    settings: dict[str, Any] = {"ci": ci, "seed": seed}
    inside, over = _control(finished, without=names), _control(finished)
    found = {
        "within": correlation.within_correlation(left, right, groups, units=units, strata=strata, **settings),
        "partial": None if inside is None else correlation.within_correlation(
            left, right, groups, units=units, strata=strata, control=inside, **settings),
        "between": correlation.between_correlation(left, right, groups, ci=ci, seed=seed),
        "pooled": correlation.pooled_correlation(left, right, groups, num_boot=n_boot, **settings),
        "pooled_partial": None if over is None else correlation.pooled_correlation(
            left, right, groups, control=over, num_boot=n_boot, **settings),
    }
    num_groups = len(np.unique(groups))
    notes = _notes(found["within"], found["pooled"], what, num_groups, "imbalance" in names)
    rows = [{"level": level, "n": value.n, "rho": value.rho, "lo": value.lo, "hi": value.hi, "p": value.p,
             "tau": value.tau, "num_groups": num_groups, "note": notes[level]}
            for level, value in found.items() if value is not None]
    return pd.DataFrame(rows)


def _from_one(values: np.ndarray, metric: str) -> np.ndarray:
    from trainers.evaluation.catalogue import METRICS

    near_one = metric in METRICS and METRICS[metric].better == "near 1"
    return preference(values, metric) if near_one else values


def _control(finished: pd.DataFrame, without: Sequence[str] = ()) -> np.ndarray | None:
    """(N, k) indicators of level and backbone, those that vary; None if neither does."""
    parts = []
    for name in ("imbalance", "backbone"):
        values = labels(finished, [name])
        parts += [] if name in without else [(values == other).astype(float) for other in np.unique(values)[1:]]
    return np.stack(parts, axis=1) if parts else None


def _notes(within: correlation.Correlation | None, pooled: correlation.Correlation | None, what: str,
           num_groups: int, level_fixed: bool) -> dict[str, str]:
    floor = 2 / math.factorial(num_groups) if 1 < num_groups <= correlation.MAX_EXACT else 0.0
    mixed = f"mixes within and between {what}; no p, because trials of one {what} are not independent"
    assert within is not None
    assert pooled is not None
    if all(value.lo > 0 or value.hi < 0 for value in (within, pooled)) and within.rho * pooled.rho < 0:
        mixed = f"Simpson's paradox: opposite in sign to the value within {what}; {mixed}"
    return {"within": "" if level_fixed else "the level moves both; p is given the level",
            "partial": "given level and backbone, where they vary inside a group",
            "between": f"{num_groups} means of {what}" + (f": p cannot be below {floor:.3g}" if floor > 1e-3 else ""),
            "pooled": mixed, "pooled_partial": f"given level and backbone; {mixed}"}


def regret(trials: pd.DataFrame, selectors: Sequence[str], metric: str, within: Sequence[str] = ("method", "imbalance"),
           ci: float = 0.95, scores: Scores | None = None, seed: int = 0) -> pd.DataFrame:
    """What it costs to choose by a selector instead of by ``metric``: mean over contexts of (best - chosen), >= 0.

    A context is a group of ``within`` with at least two trials; the choice is among its trials. Columns selector, n
    (contexts), regret, lo, hi, gain, gain_lo, gain_hi, p, p_holm (regret of a blind choice less this one, paired over
    contexts; Holm over the label-free selectors), picked_best, note. ``random`` is the expected regret of a blind
    choice and ``train/loss`` is there wherever measured: a selector must beat both. ``scores`` (a trial's
    ``scores.parquet`` by key) adds ``labelled_20`` … : choosing by the AUROC on that many labelled validation defects.
    """
    trials = with_clid(trials)
    names = list(dict.fromkeys(selectors))
    if f"metrics.{LOSS}" in trials.columns and LOSS not in names and metric != LOSS:
        names.append(LOSS)
    finished, (score,) = measured(trials, metric)
    columns = [measured(trials, name)[1][0] for name in names]
    contexts = finished.groupby([column(trials, name) for name in within], sort=False)
    parts = [rows for _, rows in contexts if len(rows) > 1]
    if not parts:
        raise NothingMatched(f"no group of {', '.join(within)} has two finished trials to choose from; run more seeds, "
                             "or choose within fewer columns, such as imbalance alone")
    quality = [preference(rows[score].to_numpy(float), metric) for rows in parts]
    wishes = {name: [preference(rows[where].to_numpy(float), name) for rows in parts]
              for name, where in zip(names, columns, strict=True)}
    costs = {name: np.array([_cost(good, wish) for good, wish in zip(quality, wishes[name], strict=True)])
             for name in names}
    costs["random"] = np.array([good.max() - good.mean() for good in quality])
    if scores is not None:
        costs |= _labelled_costs(parts, quality, scores, seed)
    lacking = {name: int(np.sum(~np.isfinite(np.concatenate(wishes[name])))) for name in names}
    return _regret_table(costs, lacking, sum(map(len, parts)), ci)


def _cost(quality: np.ndarray, wish: np.ndarray) -> float:
    """Best less chosen; a trial without a value is never chosen. NaN where none has one."""
    known = np.isfinite(wish)
    if not known.any():
        return math.nan
    return float(quality.max() - quality[known & (wish == wish[known].max())].mean())


def _regret_table(costs: dict[str, np.ndarray], lacking: dict[str, int], num_trials: int, ci: float) -> pd.DataFrame:
    """``lacking``: of each selector, how many trials have no value; its contexts without any are left out."""
    rows = []
    for name, all_costs in costs.items():
        known = np.isfinite(all_costs)
        cost, blind = all_costs[known], costs["random"][known]
        value, lo, hi = statistics.skewed_mean(cost, ci) if len(cost) else (math.nan, math.nan, math.nan)
        gain, gain_lo, gain_hi, p, _ = (statistics.paired_difference(blind - cost, np.zeros(len(cost)), ci) if len(cost)
                                        else (math.nan, math.nan, math.nan, math.nan, 0))
        notes = [f"only {len(cost)} contexts"] if len(cost) <= 5 else []
        if name.startswith("labelled_") and not known.all():
            notes.append(f"{int((~known).sum())} contexts without scores of every trial left out")
        if lacking.get(name):
            notes.append(f"no value in {lacking[name]} of {num_trials} trials, which it cannot choose")
        row = {"selector": name, "n": len(cost), "regret": value, "lo": lo, "hi": hi, "gain": gain, "gain_lo": gain_lo,
               "gain_hi": gain_hi, "p": p, "picked_best": float((cost < 1e-12).mean()) if len(cost) else math.nan,
               "note": "; ".join(notes)}
        if name == "random":
            row |= dict.fromkeys(("gain", "gain_lo", "gain_hi", "p", "picked_best"), math.nan)
        rows.append(row)
    table = pd.DataFrame(rows)
    family = table["selector"].isin([name for name in lacking if name != LOSS]).to_numpy()
    table["p_holm"] = math.nan
    table.loc[family, "p_holm"] = statistics.holm(table.loc[family, "p"].to_numpy(float))
    order = ["selector", "n", "regret", "lo", "hi", "gain", "gain_lo", "gain_hi", "p", "p_holm", "picked_best", "note"]
    return table[order]


def _labelled_costs(parts: list[pd.DataFrame], quality: list[np.ndarray], scores: Scores,
                    seed: int) -> dict[str, np.ndarray]:
    """Regret per context of choosing by AUROC on few labels, mean over draws; all trials see the same draws.

    NaN for a context in which a trial has no scores, or others than the rest.
    """
    keys = [key for rows in parts for key in rows["key"]]
    table = _validation_scores(keys, scores)
    if table is None:
        return {}
    values, truth = table
    rng = np.random.default_rng(seed)
    defects, normals = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    edges = np.cumsum([0, *(len(rows) for rows in parts)])
    found: dict[str, np.ndarray] = {}
    for wanted in (number for number in LABELLED if number <= len(defects) and len(normals) > 1):
        per_defect = len(normals) / len(defects)
        cost = np.zeros(len(parts))
        for _ in range(DRAWS):
            chosen = rng.choice(defects, wanted, replace=False)
            others = rng.choice(normals, min(len(normals), max(2, round(wanted * per_defect))), replace=False)
            aurocs = _aurocs(values[:, np.concatenate([chosen, others])], wanted)
            cost += [_cost(good, aurocs[first:last]) if np.isfinite(values[first:last]).all() else math.nan
                     for good, first, last in zip(quality, edges[:-1], edges[1:], strict=True)]
        found[f"labelled_{wanted}"] = cost / DRAWS
    return found


def _validation_scores(keys: Sequence[str], scores: Scores) -> tuple[np.ndarray, np.ndarray] | None:
    """((T, V) probe scores, (V,) labels) of the validation images; a row of NaN for a trial without, or with other
    images than most; None where no trial has any."""
    frames: list[pd.DataFrame | None] = []
    for key in keys:
        try:
            frame = scores(key)
            frame = frame[(frame["split"] == "validation") & np.isfinite(frame["score_probe"].to_numpy(float))]
            frames.append(frame if len(frame) else None)
        except (NothingMatched, OSError, ValueError, KeyError):  # pyarrow's errors are ValueErrors
            frames.append(None)
    ids = Counter(tuple(frame["image_id"]) for frame in frames if frame is not None)
    if not ids:
        return None
    shared = ids.most_common(1)[0][0]
    truth = next(frame["label"].to_numpy(int) for frame in frames
                 if frame is not None and tuple(frame["image_id"]) == shared)
    rows = [frame["score_probe"].to_numpy(float) if frame is not None and tuple(frame["image_id"]) == shared
            else np.full(len(shared), math.nan) for frame in frames]
    return np.stack(rows), truth


def _aurocs(values: np.ndarray, num_defects: int) -> np.ndarray:
    """(T,) AUROC of each row, whose first ``num_defects`` columns are the defects."""
    ranks = rankdata(values, axis=1)[:, :num_defects].sum(1)
    num_normals = values.shape[1] - num_defects
    aurocs: np.ndarray = (ranks - num_defects * (num_defects + 1) / 2) / (num_defects * num_normals)
    return aurocs
