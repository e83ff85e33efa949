"""Tables over the frame of trials (``StudyResults.trials_dataframe``): tidy frames, n always beside a value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from ablation.analysis import statistics
from ablation.errors import NothingMatched
from trainers.config import suggest

CELL = ("method", "backbone", "imbalance")
SUPERVISED = "supervised"


def column(trials: pd.DataFrame, name: str) -> str:
    """Column of a metric (``probe/auroc``), a parameter (``train.lr``) or of that name; else ``NothingMatched``."""
    for candidate in (name, f"metrics.{name}", f"params.{name}", f"provenance.{name}"):
        if candidate in trials.columns:
            return candidate
    known = [str(other).removeprefix("metrics.").removeprefix("params.") for other in trials.columns]
    hint = suggest(name, known) or "; factors are method, backbone, imbalance, seed; metrics: ablation metrics"
    raise NothingMatched(f"no trial has '{name}'{hint}")


def measured(trials: pd.DataFrame, *names: str) -> tuple[pd.DataFrame, list[str]]:
    """FINISHED trials with a finite number in all of ``names``, and the columns of these names."""
    columns = [column(trials, name) for name in names]
    finished = trials[trials["state"] == "FINISHED"]
    for name, where in zip(names, columns, strict=True):
        values = pd.to_numeric(finished[where], errors="coerce")
        finished = finished[np.isfinite(values.to_numpy(float, na_value=math.nan))]
        if finished.empty:
            raise NothingMatched(f"no finished trial has a number for '{name}'")
    other = [name for name in columns if finished[name].dtype != float]
    return finished.astype(dict.fromkeys(other, float)) if other else finished, columns


def preference(values: np.ndarray, metric: str) -> np.ndarray:
    """Values turned so that higher is better, by the catalogue; losses, error rates, times and waits are better low,
    anything unknown is better high."""
    from trainers.evaluation.catalogue import METRICS

    better = METRICS[metric].better if metric in METRICS else "context"
    if better == "near 1":
        distance: np.ndarray = np.abs(values - 1)
        return -distance
    low = metric.startswith(("time/", "memory/")) or metric.endswith(("loss", "fpr_at_95tpr", "data_wait"))
    return -values if better == "lower" or (better == "context" and low) else values


def higher_is_better(metric: str) -> bool:
    """Whether ``preference`` leaves the order as it is."""
    return bool(preference(np.ones(1), metric)[0] > 0)


def best(trials: pd.DataFrame, metric: str, by: Iterable[str] = (), k: int = 1) -> pd.DataFrame:
    """The ``k`` best trials of each group, best first."""
    finished, (score,) = measured(trials, metric)
    order = np.argsort(-preference(finished[score].to_numpy(float), metric), kind="stable")
    ranked = finished.iloc[order]
    groups = [column(trials, name) for name in by]
    if not groups:
        return ranked.head(k).reset_index(drop=True)
    parts = [ranked.loc[ranked.index.isin(rows.index)].head(k) for _, rows in finished.groupby(groups, sort=False)]
    return pd.concat(parts, ignore_index=True)


def aggregate(trials: pd.DataFrame, metric: str, by: Iterable[str] = CELL, stat: statistics.Statistic = "mean",
              ci: float = 0.95, n_boot: int = 2_000, seed: int = 0) -> pd.DataFrame:
    """One row per group of planned trials: n (measured), planned, value, lo, hi; also for groups without a number.

    The interval is over pre-training subsets (seeds), for these cells of (method, backbone, imbalance): see
    ``statistics.interval``.
    """
    finished, (score,) = measured(trials, metric)
    groups = [column(trials, name) for name in by]
    cells = labels(finished, CELL)
    values = finished[score].to_numpy(float)
    parts = trials.groupby(groups, sort=False, dropna=False) if groups else [((), trials)]
    rows = []
    for names, planned in parts:
        inside = finished.index.isin(planned.index)
        here = values[inside]
        value = float(statistics.location(here, stat)) if len(here) else math.nan
        units, strata = subset_units(finished[inside])
        lo, hi = statistics.interval(here, cells[inside], stat, ci, n_boot, seed, units, strata)
        rows.append(dict(zip(groups, names, strict=True))
                    | {"n": len(here), "planned": len(planned), "value": value, "lo": lo, "hi": hi})
    return pd.DataFrame(rows)


def curves(trials: pd.DataFrame, history: pd.DataFrame, metric: str = "train/loss", by: Iterable[str] = CELL,
           ci: float = 0.95) -> pd.DataFrame:
    """Mean curve over seeds of ``StudyResults.history``: one row per group and epoch with n, value, lo, hi."""
    points = history[(history["metric"] == metric) & np.isfinite(history["value"].to_numpy(float))]
    if points.empty:
        known = sorted(set(history["metric"]))
        raise NothingMatched(f"no trial has reported '{metric}' while training{suggest(metric, known)}")
    groups = [column(trials, name) for name in by]
    points = points.merge(trials[list(dict.fromkeys(["key", *CELL, "seed", *groups]))], on="key")
    rows = []
    for names, part in points.groupby([*groups, "epoch"], sort=False):
        values = part["value"].to_numpy(float)
        lo, hi = statistics.interval(values, labels(part, CELL), "mean", ci, 0, 0, *subset_units(part))
        rows.append(dict(zip([*groups, "epoch"], names, strict=True))
                    | {"metric": metric, "n": len(values), "value": float(values.mean()), "lo": lo, "hi": hi})
    return pd.DataFrame(rows)


def subset_units(trials: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """((N,) units, (N,) strata): trials of one level and seed are trained on the same pictures."""
    return labels(trials, ["imbalance", "seed"]), labels(trials, ["imbalance"])


def self_supervised(trials: pd.DataFrame) -> pd.DataFrame:
    """Without supervised references, unless there is nothing else."""
    own = trials[trials["method"] != SUPERVISED]
    return own if len(own) else trials


def prevalence(trials: pd.DataFrame) -> pd.Series[float]:
    """Share of defects of each trial's pre-training subset; that of ``natural`` from its counts, NaN without."""
    known = pd.to_numeric(trials["imbalance"], errors="coerce").astype(float)
    if not {"num_defects", "num_normals"} <= set(trials):
        return known
    defects, normals = (pd.to_numeric(trials[name], errors="coerce").astype(float)
                        for name in ("num_defects", "num_normals"))
    return known.where(known.notna(), defects / (defects + normals))


def labels(trials: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """(N,) one text per trial that names its values in ``columns``."""
    if not columns:
        return np.full(len(trials), "all")
    joined = trials[columns[0]].astype(str)
    for name in columns[1:]:
        joined = joined + "|" + trials[name].astype(str)
    return joined.to_numpy(str)
