"""Rank correlation over trials that are not independent: inside groups, between groups, and over all at once."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ablation.analysis.statistics import LEAST_DF, NAN, Interval

MAX_EXACT = 7
"""Largest number of groups whose orders are enumerated (7! = 5,040)."""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho with interval and permutation p, and Kendall's tau_b; NaN where there is none."""

    n: int
    rho: float
    lo: float = math.nan
    hi: float = math.nan
    p: float = math.nan
    tau: float = math.nan


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation, ties averaged; NaN for fewer than 3 values or a constant."""
    if len(x) < 3:
        return math.nan
    return _cosine(_centred_ranks(x), _centred_ranks(y))


def within_correlation(x: np.ndarray, y: np.ndarray, groups: np.ndarray, *, units: np.ndarray | None = None,
                       strata: np.ndarray | None = None, control: np.ndarray | None = None, num_perm: int = 2000,
                       ci: float = 0.95, seed: int = 0) -> Correlation:
    """Correlation of the ranks inside each group (N,): differences between groups cannot enter.

    ``units`` (N,): what several trials share, such as the pictures of one seed and level; p by giving the units'
    ranks of y to other units of the same stratum (``strata`` (N,), the levels), all trials of a unit together.
    Default: every trial its own unit, shuffled inside its group. Interval: Fisher's z with the standard deviation of
    that null and Student's t with units less strata degrees of freedom; bootstraps of units are too narrow, since
    ranks inside a group bind them. ``control`` (N, k): partial correlation, given these inside each group. Every group
    counts by its size; those of one trial not at all.
    """
    names, counts = np.unique(groups, return_counts=True)
    kept = np.isin(groups, names[counts > 1])
    x, y, groups = x[kept], y[kept], groups[kept]
    control = None if control is None else control[kept]
    members = [np.flatnonzero(groups == name) for name in names[counts > 1]]
    rank_x, rank_y = (_ranks_within(values, members, control) for values in (x, y))
    rho = _cosine(rank_x, rank_y)
    if len(groups) < 3 or math.isnan(rho):
        return Correlation(len(groups), math.nan)
    own = np.arange(len(groups)) if units is None else units[kept]
    levels = groups if strata is None else strata[kept]
    df = len(np.unique(own)) - len(np.unique(levels))
    p, lo, hi = math.nan, math.nan, math.nan
    if num_perm and df >= LEAST_DF:
        null = _permutations(rank_x, rank_y, groups, own, levels, num_perm, seed)
        centre = float(null.mean())
        p = float((1 + np.sum(np.abs(null - centre) >= abs(rho - centre) - 1e-12)) / (num_perm + 1))
        spread = float(np.arctanh(np.clip(null, -0.9999, 0.9999)).std())
        lo, hi = _around(rho, spread * float(stats.t.ppf((1 + ci) / 2, df)))
    tau = math.nan if control is not None else _tau(x, y, members)
    return Correlation(len(groups), rho, lo, hi, p, tau)


def between_correlation(x: np.ndarray, y: np.ndarray, groups: np.ndarray, *, num_perm: int = 2000, ci: float = 0.95,
                        seed: int = 0) -> Correlation:
    """Correlation of the G group means; p by all G! orders (up to 7 groups), else by random ones; interval by the
    asymptotic error of Bonett & Wright (Psychometrika 2000)."""
    names = np.unique(groups)
    mean_x = np.array([x[groups == name].mean() for name in names])
    mean_y = np.array([y[groups == name].mean() for name in names])
    rho = spearman(mean_x, mean_y)
    if math.isnan(rho):
        return Correlation(len(names), rho)
    rank_x, rank_y = _centred_ranks(mean_x), _centred_ranks(mean_y)
    if len(names) <= MAX_EXACT:
        orders, extra = np.array(list(itertools.permutations(range(len(names))))), 0
    else:
        rng = np.random.default_rng(seed)
        orders, extra = rng.permuted(np.tile(np.arange(len(names)), (num_perm, 1)), axis=1), 1
    null = rank_y[orders] @ rank_x / math.sqrt((rank_x @ rank_x) * (rank_y @ rank_y))
    p = (extra + np.sum(np.abs(null) >= abs(rho) - 1e-12)) / (len(orders) + extra)
    tau = float(stats.kendalltau(mean_x, mean_y).statistic)
    return Correlation(len(names), rho, *fisher_interval(rho, len(names), ci), float(p), tau)


def pooled_correlation(x: np.ndarray, y: np.ndarray, groups: np.ndarray, *, control: np.ndarray | None = None,
                       num_boot: int = 1000, ci: float = 0.95, seed: int = 0) -> Correlation:
    """Over all values at once; interval by resampling whole groups. No p: values of a group are not independent.

    ``control`` (N, k): partial, given these. With 5 groups the interval is on the wide side.
    """
    if len(x) < 3:
        return Correlation(len(x), math.nan)
    everything = [np.arange(len(x))]
    rank_x, rank_y = (_ranks_within(values, everything, control) for values in (x, y))
    rho = _cosine(rank_x, rank_y)
    if math.isnan(rho):
        return Correlation(len(x), rho)
    clusters = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    lo, hi = cluster_interval(rank_x, rank_y, clusters, num_boot, ci, seed) if len(clusters) > 1 else NAN
    tau = math.nan if control is not None else float(stats.kendalltau(x, y).statistic)
    return Correlation(len(x), rho, lo, hi, tau=tau)


def cluster_interval(rank_x: np.ndarray, rank_y: np.ndarray, clusters: list[np.ndarray], num_boot: int, ci: float,
                     seed: int) -> Interval:
    """Interval of the correlation of centred ranks: bootstrap of Fisher's z over the G clusters, its standard error
    times sqrt(G / (G - 1)) and Student's t with G - 1 degrees of freedom."""
    rho, count = _cosine(rank_x, rank_y), len(clusters)
    sums = np.array([[rank_x[m].sum(), rank_y[m].sum(), rank_x[m] @ rank_y[m], rank_x[m] @ rank_x[m],
                      rank_y[m] @ rank_y[m], len(m)] for m in clusters])
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=max(num_boot, 2)) @ sums
    sx, sy, sxy, sxx, syy, n = draws.T
    with np.errstate(invalid="ignore", divide="ignore"):
        samples = (sxy - sx * sy / n) / np.sqrt((sxx - sx**2 / n) * (syy - sy**2 / n))
    samples = np.arctanh(np.clip(samples[np.isfinite(samples)], -0.9999, 0.9999))
    if num_boot < 2 or len(samples) < num_boot / 2:
        return NAN
    error = float(samples.std(ddof=1)) * math.sqrt(count / (count - 1))
    return _around(rho, error * float(stats.t.ppf((1 + ci) / 2, count - 1)))


def fisher_interval(rho: float, n: int, ci: float) -> Interval:
    """Interval of Spearman's rho of n independent pairs (Bonett & Wright 2000); NaN for n < 4."""
    if n < 4:
        return NAN
    return _around(rho, math.sqrt((1 + rho**2 / 2) / (n - 3)) * float(stats.norm.ppf((1 + ci) / 2)))


def _around(rho: float, half: float) -> Interval:
    centre = math.atanh(min(max(rho, -0.9999), 0.9999))
    return math.tanh(centre - half), math.tanh(centre + half)


def _permutations(rank_x: np.ndarray, rank_y: np.ndarray, groups: np.ndarray, units: np.ndarray,
                  strata: np.ndarray, num_perm: int, seed: int) -> np.ndarray:
    """(num_perm,) correlations with whole units in other places of their stratum: what the trials of a unit have in
    common stays together. Their mean is not 0 where the strata move both.

    A trial without a partner of its group in the other unit (unfinished) gets rank 0, the mean.
    """
    rng = np.random.default_rng(seed)
    _, group = np.unique(groups, return_inverse=True)
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    if len(first) == len(units):  # every trial its own unit: they change places inside their groups
        shuffled = np.tile(rank_y, (num_perm, 1))
        for name in np.unique(strata):
            member = np.flatnonzero(strata == name)
            shuffled[:, member] = rng.permuted(shuffled[:, member], axis=1)
    else:
        # Several trials of a group in one unit (a group of several backbones, say) are told apart by their order.
        place = _order_in(group * (unit.max() + 1) + unit)
        table = np.zeros((group.max() + 1, len(first), place.max() + 1))
        table[group, unit, place] = rank_y
        moved = np.tile(np.arange(len(first)), (num_perm, 1))
        for name in np.unique(strata[first]):
            member = np.flatnonzero(strata[first] == name)
            moved[:, member] = rng.permuted(moved[:, member], axis=1)
        shuffled = table[group, moved[:, unit], place]
    null: np.ndarray = shuffled @ rank_x / math.sqrt(float((rank_x @ rank_x) * (rank_y @ rank_y)))
    return null


def _order_in(keys: np.ndarray) -> np.ndarray:
    """(N,) 0, 1, … among equal keys."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    out = np.empty(len(keys), int)
    out[order] = np.arange(len(keys)) - np.repeat(starts, np.diff(np.append(starts, len(keys))))
    return out


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    ranks: np.ndarray = stats.rankdata(values, axis=0)
    centred: np.ndarray = ranks - ranks.mean(0)
    return centred


def _ranks_within(values: np.ndarray, members: list[np.ndarray], control: np.ndarray | None) -> np.ndarray:
    """Centred ranks inside groups over the group's size, so that all have one scale, without what ``control`` says."""
    out = np.zeros(len(values))
    for member in members:
        ranks = _centred_ranks(values[member]) / len(member)
        if control is not None:
            known = control[member] - control[member].mean(0)
            ranks = ranks - known @ np.linalg.lstsq(known, ranks, rcond=None)[0]
            ranks[np.abs(ranks) < 1e-12] = 0.0  # what rounding leaves of a constant is no rank
        out[member] = ranks
    return out


def _tau(x: np.ndarray, y: np.ndarray, members: list[np.ndarray]) -> float:
    """Kendall's tau_b inside groups, mean over groups weighted by size; groups without spread are left out."""
    found = [(float(stats.kendalltau(x[m], y[m]).statistic), len(m)) for m in members
             if np.ptp(x[m]) > 0 and np.ptp(y[m]) > 0]
    return float(np.average([tau for tau, _ in found], weights=[size for _, size in found])) if found else math.nan


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    norm = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / norm if norm > 1e-12 else math.nan
