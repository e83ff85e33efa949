"""Rank correlation over trials that are not independent: inside groups, between groups, and over all at once."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ablation.analysis.statistics import NAN, Interval

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


def within_correlation(x: np.ndarray, y: np.ndarray, groups: np.ndarray, *, control: np.ndarray | None = None,
                       strata: np.ndarray | None = None, num_boot: int = 1000, num_perm: int = 2000, ci: float = 0.95,
                       seed: int = 0) -> Correlation:
    """Correlation of the ranks inside each group (N,): differences between groups cannot enter.

    ``control`` (N, k): partial correlation, given the ranks of these inside each group. p by shuffling inside
    ``strata`` (default: the groups), which must hold trials that are exchangeable when nothing is related. Interval by
    resampling whole groups. Every group counts by its size; those of one trial not at all.
    """
    kept = np.isin(groups, [name for name, count in zip(*np.unique(groups, return_counts=True), strict=True)
                            if count > 1])
    x, y, groups = x[kept], y[kept], groups[kept]
    control = None if control is None else control[kept]
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    rank_x, rank_y = (_ranks_within(values, members, control) for values in (x, y))
    rho = _cosine(rank_x, rank_y)
    if len(groups) < 3 or math.isnan(rho):
        return Correlation(len(groups), math.nan)
    blocks = members if strata is None else [np.flatnonzero(strata[kept] == name) for name in np.unique(strata[kept])]
    p = _permutation_p(rank_x, rank_y, blocks, num_perm, np.random.default_rng(seed)) if num_perm else math.nan
    lo, hi = cluster_interval(rank_x, rank_y, members, num_boot, ci, seed)
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

    ``control`` (N, k): partial, given the ranks of these. With 5 groups the interval is on the wide side.
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
    """Interval of the correlation of centred ranks: cluster bootstrap of Fisher's z, its standard error times
    sqrt(G / (G - 1)) and Student's t with G - 1 degrees of freedom. One cluster: ``fisher_interval``."""
    rho, count = _cosine(rank_x, rank_y), len(clusters)
    if count == 1:
        return fisher_interval(rho, len(rank_x), ci)
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


def _permutation_p(rank_x: np.ndarray, rank_y: np.ndarray, blocks: list[np.ndarray], num_perm: int,
                   rng: np.random.Generator) -> float:
    shuffled = np.tile(rank_y, (num_perm, 1))
    for block in blocks:
        shuffled[:, block] = rng.permuted(shuffled[:, block], axis=1)
    null = shuffled @ rank_x
    return float((1 + np.sum(np.abs(null) >= abs(rank_x @ rank_y) * (1 - 1e-12))) / (num_perm + 1))


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
            known = _centred_ranks(control[member])
            ranks = ranks - known @ np.linalg.lstsq(known, ranks, rcond=None)[0]
            ranks[np.abs(ranks) < 1e-12] = 0.0  # what rounding leaves of a constant is no rank
        out[member] = ranks
    return out


def _tau(x: np.ndarray, y: np.ndarray, members: list[np.ndarray]) -> float:
    """Kendall's tau_b over the pairs inside groups, every group weighted by its size."""
    sums = np.zeros(3)
    for member in members:
        sign_x, sign_y = (np.sign(v[member][:, None] - v[member][None]) for v in (x, y))
        sums += np.array([(sign_x * sign_y).sum(), (sign_x**2).sum(), (sign_y**2).sum()]) / (len(member) - 1)
    return float(sums[0] / math.sqrt(sums[1] * sums[2])) if sums[1] > 0 and sums[2] > 0 else math.nan


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    norm = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / norm if norm > 1e-12 else math.nan
