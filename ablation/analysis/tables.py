"""Tables over the frame of trials (``StudyResults.trials_dataframe``): tidy frames, n always beside a value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ablation.analysis import statistics
from ablation.analysis.complete import balanced_values
from ablation.errors import NothingMatched
from trainers.config import suggest

CELL = ("method", "backbone", "imbalance")


def column(trials: pd.DataFrame, name: str) -> str:
    """Column of a metric (``probe/auroc``), a parameter (``train.lr``) or of that name; else ``NothingMatched``."""
    for candidate in (name, f"metrics.{name}", f"params.{name}", f"provenance.{name}"):
        if candidate in trials.columns:
            return candidate
    known = [str(other).removeprefix("metrics.").removeprefix("params.") for other in trials.columns]
    raise NothingMatched(f"no trial has '{name}'{suggest(name, known)}")


def measured(trials: pd.DataFrame, *names: str) -> tuple[pd.DataFrame, list[str]]:
    """FINISHED trials with a finite number in all of ``names``, and the columns of these names."""
    columns = [column(trials, name) for name in names]
    finished = trials[trials["state"] == "FINISHED"]
    for name, where in zip(names, columns, strict=True):
        values = pd.to_numeric(finished[where], errors="coerce")
        finished = finished[np.isfinite(values.to_numpy(float, na_value=math.nan))]
        if finished.empty:
            raise NothingMatched(f"no finished trial has a number for '{name}'")
    return finished.astype(dict.fromkeys(columns, float)), columns


def higher_is_better(metric: str) -> bool:
    """From the catalogue; losses, error rates, times and waits are better low, anything unknown is better high."""
    from trainers.evaluation.catalogue import METRICS

    if metric in METRICS and METRICS[metric].better != "context":
        return METRICS[metric].better == "higher"
    return not metric.startswith(("time/", "memory/")) and not metric.endswith(("loss", "fpr_at_95tpr", "data_wait"))


def best(trials: pd.DataFrame, metric: str, by: Iterable[str] = (), k: int = 1) -> pd.DataFrame:
    """The ``k`` best trials of each group, best first."""
    finished, (score,) = measured(trials, metric)
    ranked = finished.sort_values(score, ascending=not higher_is_better(metric), kind="stable")
    groups = [column(trials, name) for name in by]
    if not groups:
        return ranked.head(k).reset_index(drop=True)
    parts = [ranked.loc[ranked.index.isin(rows.index)].head(k) for _, rows in finished.groupby(groups, sort=False)]
    return pd.concat(parts, ignore_index=True)


def aggregate(trials: pd.DataFrame, metric: str, by: Iterable[str] = CELL, stat: statistics.Statistic = "mean",
              ci: float = 0.95, n_boot: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """One row per group of planned trials: n (measured), planned, value, lo, hi; also for groups without a number."""
    finished, (score,) = measured(trials, metric)
    groups = [column(trials, name) for name in by]
    cells = _labels(finished, CELL).to_numpy(str)
    values = finished[score].to_numpy(float)
    parts = trials.groupby(groups, sort=False, dropna=False) if groups else [((), trials)]
    rows = []
    for names, planned in parts:
        inside = finished.index.isin(planned.index)
        here = values[inside]
        value = float(statistics.location(here, stat)) if len(here) else math.nan
        lo, hi = statistics.interval(here, cells[inside], stat, ci, n_boot, seed)
        rows.append(dict(zip(groups, names, strict=True))
                    | {"n": len(here), "planned": len(planned), "value": value, "lo": lo, "hi": hi})
    return pd.DataFrame(rows)


def correlate(trials: pd.DataFrame, x: str, y: str, group: str | Sequence[str] = "method", ci: float = 0.95,
              n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Spearman's rho of two metrics on three levels: within groups, between group means, and pooled (which mixes both).

    Columns level, n, rho, lo, hi, p, num_groups, note. Only ``within`` answers "does x tell good from bad among runs of
    one method"; pooled values of opposite sign are common (Simpson). RankMe's authors compare runs of one method only.
    """
    finished, columns = measured(trials, x, y)
    names = [group] if isinstance(group, str) else list(group)
    labels = _labels(finished, [column(trials, name) for name in names]).to_numpy(str)
    left, right = (finished[name].to_numpy(float) for name in columns)
    num_groups, what = len(np.unique(labels)), " x ".join(names)
    parts = {"within": statistics.within_correlation(left, right, labels, num_boot=n_boot, ci=ci, seed=seed),
             "between": statistics.between_correlation(left, right, labels, seed=seed),
             "pooled": statistics.pooled_correlation(left, right, labels, num_boot=n_boot, ci=ci, seed=seed)}
    few = ""
    if num_groups < statistics.FEW_CLUSTERS:
        few = f"few clusters ({num_groups} of {what}): rely on p, not on the interval"
    if num_groups == 1:
        few = f"one {what}: the interval resamples trials"
    floor = 2 / math.factorial(num_groups) if num_groups <= statistics.MAX_EXACT else 0.0
    notes = [
        few,
        f"n = {num_groups} means of {what}" + (f": p cannot be below {floor:.3g}" if floor > 0.001 else ""),
        f"mixes within and between {what}; no p, because trials of one {what} are not independent",
    ]
    rows = [{"level": level, "n": found.n, "rho": found.rho, "lo": found.lo, "hi": found.hi, "p": found.p,
             "num_groups": num_groups, "note": note}
            for (level, found), note in zip(parts.items(), notes, strict=True)]
    return pd.DataFrame(rows)


def regret(trials: pd.DataFrame, selectors: Sequence[str], metric: str, within: Sequence[str] = ("method", "imbalance"),
           ci: float = 0.95, n_boot: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """What it costs to choose by ``selector`` instead of by ``metric``: mean over contexts of (best - chosen), >= 0.

    A context is a group of ``within`` with at least two trials; the choice is among its trials. ``random`` is the
    expected regret of a blind choice, and ``train/loss`` is there wherever it was measured: a selector must beat both.
    """
    names = list(dict.fromkeys(selectors))
    if "metrics.train/loss" in trials.columns and "train/loss" not in names and metric != "train/loss":
        names.append("train/loss")
    finished, (score, *columns) = measured(trials, metric, *names)
    sign = 1.0 if higher_is_better(metric) else -1.0
    contexts = finished.groupby([column(trials, name) for name in within], sort=False)
    parts = [rows for _, rows in contexts if len(rows) > 1]
    if not parts:
        raise NothingMatched(f"no group of {', '.join(within)} has two finished trials to choose from")
    costs: dict[str, list[float]] = {name: [] for name in (*names, "random")}
    for rows in parts:
        scores = sign * rows[score].to_numpy(float)
        for name, where in zip(names, columns, strict=True):
            values = rows[where].to_numpy(float) * (1.0 if higher_is_better(name) else -1.0)
            costs[name].append(float(scores.max() - scores[values == values.max()].mean()))
        costs["random"].append(float(scores.max() - scores.mean()))
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(parts), (n_boot, len(parts)))
    note = "" if len(parts) > 5 else f"only {len(parts)} contexts: the interval is too narrow"
    table = []
    for name, cost in costs.items():
        samples = np.array(cost)[picks].mean(1) if len(parts) > 1 else np.empty(0)
        lo, hi = statistics.percentiles(samples, ci)
        hits = float(np.mean(np.array(cost) <= 1e-12)) if name != "random" else math.nan
        table.append({"selector": name, "n": len(parts), "regret": float(np.mean(cost)), "lo": lo, "hi": hi,
                      "picked_best": hits, "note": note})
    return pd.DataFrame(table)


def variance(trials: pd.DataFrame, metric: str, factors: Sequence[str] = CELL, ci: float = 0.95, n_boot: int = 1000,
             seed: int = 0) -> pd.DataFrame:
    """Balanced analysis of variance: which factor moves the score.

    Columns term, df, ss, omega2, lo, hi, p, swing, note. ``swing`` is the mean |difference| when only that factor
    changes, in units of the metric: read it beside omega2, which favours factors with many values. The residual is seed
    noise. Only complete cells enter; the note says what was left out. The factors are fixed: nothing is claimed about
    methods that were not run.
    """
    finished, (score,) = measured(trials, metric)
    columns = [column(trials, name) for name in factors]
    planned = trials.drop_duplicates(columns)
    values, used, note = balanced_values(finished, planned, columns, score)
    rows = []
    for effect in statistics.omega_squared(values, num_boot=n_boot, ci=ci, seed=seed):
        term = ":".join(used[factor] for factor in effect.factors) or "residual"
        swing = statistics.typical_swing(values, effect.factors[0]) if len(effect.factors) == 1 else math.nan
        rows.append({"term": term, "df": effect.df, "ss": effect.ss, "omega2": effect.omega2, "lo": effect.lo,
                     "hi": effect.hi, "p": effect.p, "swing": swing, "note": note})
    return pd.DataFrame(rows)


def compare(trials: pd.DataFrame, metric: str, by: str = "method", blocks: Sequence[str] | None = None) -> pd.DataFrame:
    """Do the values of ``by`` differ? First row: Friedman over blocks; then each pair: Wilcoxon signed-rank with Holm.

    Columns test, a, b, n (blocks), statistic, difference (mean of a - b), prob_better (P(a beats b), 0..1, over seeds
    inside blocks), rank_a, rank_b (mean rank, 1 = best), p, p_holm, note. A block is one cell of ``blocks`` (default:
    what is left of method, backbone, imbalance), averaged over seeds; incomplete blocks are left out and counted in the
    note. Blocks that share data are not independent, so p is on the small side.
    """
    finished, (score,) = measured(trials, metric)
    treatment = column(trials, by)
    keys = [column(trials, name) for name in (blocks if blocks is not None else [name for name in CELL if name != by])]
    names = list(dict.fromkeys(trials[treatment]))
    block = _labels(finished, keys)
    values = {key: rows.to_numpy(float) for key, rows in finished[score].groupby([block, finished[treatment]])}
    complete = [name for name in dict.fromkeys(block) if all((name, option) in values for option in names)]
    note = _block_note(len(complete), _labels(trials, keys).nunique(), len(names))
    if not complete:
        raise NothingMatched(f"no cell of {', '.join(keys) or 'the study'} has a finished trial of every {by}")
    sign = 1.0 if higher_is_better(metric) else -1.0
    means = np.array([[values[name, option].mean() for option in names] for name in complete])
    ranks = pd.DataFrame(-sign * means).rank(axis=1).mean().to_numpy(float)
    statistic, p = statistics.friedman(means)
    rows: list[dict[str, Any]] = [{"test": "friedman", "a": "", "b": "", "statistic": statistic, "p": p}]
    pairs = list(itertools.combinations(range(len(names)), 2))
    p_values = np.array([statistics.wilcoxon(means[:, i] - means[:, j]) for i, j in pairs])
    for (i, j), raw, adjusted in zip(pairs, p_values, statistics.holm(p_values), strict=True):
        odds = [statistics.probability_of_improvement(sign * values[name, names[i]], sign * values[name, names[j]])
                for name in complete]
        rows.append({"test": "wilcoxon", "a": names[i], "b": names[j],
                     "difference": float((means[:, i] - means[:, j]).mean()), "prob_better": float(np.mean(odds)),
                     "rank_a": ranks[i], "rank_b": ranks[j], "p": raw, "p_holm": adjusted})
    order = ["test", "a", "b", "n", "statistic", "difference", "prob_better", "rank_a", "rank_b", "p", "p_holm", "note"]
    return pd.DataFrame(rows).assign(n=len(complete), note=note).reindex(columns=order)


def _labels(trials: pd.DataFrame, columns: Sequence[str]) -> pd.Series[str]:
    """One text per trial that names its values in ``columns``."""
    if not columns:
        return pd.Series("all", index=trials.index)
    return trials[list(columns)].astype(str).agg("|".join, axis=1)


def _block_note(num_complete: int, num_planned: int, num_options: int) -> str:
    notes = []
    if num_complete < num_planned:
        notes.append(f"{num_planned - num_complete} of {num_planned} blocks left out (unfinished trials)")
    if num_complete and 2 / 2**num_complete > 0.05:
        notes.append(f"{num_complete} blocks: a Wilcoxon p cannot be below {2 / 2**num_complete:.3g}")
    if num_options < 3:
        notes.append("Friedman needs three or more values")
    return "; ".join(notes)
