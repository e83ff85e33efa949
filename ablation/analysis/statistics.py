"""Statistics over trials, arrays in, arrays out. Trials of one method are not independent: see ``correlation``.

N values, G groups (clusters), B bootstrap samples. NaN means: cannot be told from these numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

Statistic = Literal["mean", "median", "iqm"]
NAN = (math.nan, math.nan)
FEW_CLUSTERS = 8
MAX_EXACT = 7
"""Largest number of groups whose orders are enumerated (7! = 5,040)."""


def location(values: np.ndarray, stat: Statistic) -> np.ndarray:
    """Mean, median or interquartile mean over the last axis. IQM = mean of the middle half (Agarwal et al. 2021)."""
    if stat == "iqm":
        middle: np.ndarray = stats.trim_mean(values, 0.25, axis=-1)
        return middle
    return np.asarray(values.mean(-1) if stat == "mean" else np.median(values, axis=-1))


def interval(values: np.ndarray, cells: np.ndarray, stat: Statistic, ci: float, num_boot: int,
             seed: int) -> tuple[float, float]:
    """Confidence interval of ``location``.

    Mean of one cell with n >= 3: Student t. Otherwise percentile bootstrap of seeds within their cells ((N,) labels;
    stratified as in rliable), which needs a cell of 3 or more; it is too narrow for few seeds. Fewer values give NaN.
    """
    names, counts = np.unique(cells, return_counts=True)
    if counts.max(initial=0) < 3:
        return NAN
    if stat == "mean" and len(names) == 1:
        half = stats.t.ppf((1 + ci) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
        return float(values.mean() - half), float(values.mean() + half)
    rng = np.random.default_rng(seed)
    parts = [values[cells == name] for name in names]
    samples = np.concatenate([part[rng.integers(0, len(part), (num_boot, len(part)))] for part in parts], axis=1)
    return percentiles(location(samples, stat), ci)


def percentiles(samples: np.ndarray, ci: float) -> tuple[float, float]:
    """The middle ``ci`` of bootstrap samples; NaN without finite ones."""
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return NAN
    low, high = np.quantile(samples, [(1 - ci) / 2, (1 + ci) / 2])
    return float(low), float(high)


# --- correlation ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho with a cluster-bootstrap interval and a permutation p; NaN where there is none."""

    n: int
    rho: float
    lo: float = math.nan
    hi: float = math.nan
    p: float = math.nan


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation, ties averaged; NaN for fewer than 3 values or a constant."""
    if len(x) < 3:
        return math.nan
    return _cosine(_centred_ranks(x), _centred_ranks(y))


def within_correlation(x: np.ndarray, y: np.ndarray, groups: np.ndarray, *, num_boot: int = 1000, num_perm: int = 2000,
                       ci: float = 0.95, seed: int = 0) -> Correlation:
    """Pooled correlation of the ranks inside each group: differences between groups cannot enter.

    p by shuffling inside groups; interval by resampling whole groups, or the values themselves if there is one group.
    """
    rank_x, rank_y, groups = _ranks_within(x, y, groups)
    n, rng = len(groups), np.random.default_rng(seed)
    rho = _cosine(rank_x, rank_y)
    if n < 3 or math.isnan(rho):
        return Correlation(n, math.nan)
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    shuffled = np.tile(rank_y, (num_perm, 1))
    for member in members:
        shuffled[:, member] = rng.permuted(shuffled[:, member], axis=1)
    null = shuffled @ rank_x / math.sqrt((rank_x @ rank_x) * (rank_y @ rank_y))
    p = (1 + np.sum(np.abs(null) >= abs(rho) - 1e-12)) / (num_perm + 1)
    clusters = members if len(members) > 1 else [np.array([position]) for position in range(n)]
    samples = _cluster_bootstrap(clusters, lambda take: _cosine(rank_x[take], rank_y[take]), num_boot, rng)
    lo, hi = percentiles(samples, ci)
    return Correlation(n, rho, lo, hi, float(p))


def between_correlation(x: np.ndarray, y: np.ndarray, groups: np.ndarray, *, num_perm: int = 2000,
                        seed: int = 0) -> Correlation:
    """Correlation of the G group means; p by all G! orders (up to 7 groups), else by random ones."""
    names = np.unique(groups)
    mean_x = np.array([x[groups == name].mean() for name in names])
    mean_y = np.array([y[groups == name].mean() for name in names])
    rho = spearman(mean_x, mean_y)
    if math.isnan(rho):
        return Correlation(len(names), rho)
    rank_x, rank_y = _centred_ranks(mean_x), _centred_ranks(mean_y)
    if len(names) <= MAX_EXACT:
        orders = np.array(list(itertools.permutations(range(len(names)))))
        extra = 0
    else:
        rng = np.random.default_rng(seed)
        orders = rng.permuted(np.tile(np.arange(len(names)), (num_perm, 1)), axis=1)
        extra = 1
    null = rank_y[orders] @ rank_x / math.sqrt((rank_x @ rank_x) * (rank_y @ rank_y))
    p = (extra + np.sum(np.abs(null) >= abs(rho) - 1e-12)) / (len(orders) + extra)
    return Correlation(len(names), rho, p=float(p))


def pooled_correlation(x: np.ndarray, y: np.ndarray, groups: np.ndarray, *, num_boot: int = 1000, ci: float = 0.95,
                       seed: int = 0) -> Correlation:
    """Over all values at once; interval by resampling whole groups. No p: the values are not independent."""
    rho = spearman(x, y)
    clusters = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    if math.isnan(rho) or len(clusters) < 2:
        return Correlation(len(x), rho)
    rng = np.random.default_rng(seed)
    lo, hi = percentiles(_cluster_bootstrap(clusters, lambda take: spearman(x[take], y[take]), num_boot, rng), ci)
    return Correlation(len(x), rho, lo, hi)


def _cluster_bootstrap(clusters: list[np.ndarray], statistic: Callable[[np.ndarray], float], num_boot: int,
                       rng: np.random.Generator) -> np.ndarray:
    picks = rng.integers(0, len(clusters), (num_boot, len(clusters)))
    return np.array([statistic(np.concatenate([clusters[pick] for pick in row])) for row in picks])


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    ranks: np.ndarray = stats.rankdata(values)
    centred: np.ndarray = ranks - ranks.mean()
    return centred


def _ranks_within(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centred ranks of groups of 2 or more, divided by the group's size, so that every group has the same scale."""
    parts = [member for name in np.unique(groups) if len(member := np.flatnonzero(groups == name)) > 1]
    if not parts:
        return np.empty(0), np.empty(0), np.empty(0)
    rank_x = np.concatenate([_centred_ranks(x[member]) / len(member) for member in parts])
    rank_y = np.concatenate([_centred_ranks(y[member]) / len(member) for member in parts])
    return rank_x, rank_y, np.concatenate([groups[member] for member in parts])


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    norm = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / norm if norm > 1e-12 else math.nan


# --- variance ------------------------------------------------------------------------------------------------------


def sums_of_squares(values: np.ndarray) -> dict[tuple[int, ...], tuple[int, np.ndarray]]:
    """Of a batch of balanced factorials ``values`` (B, L_1, ..., L_F, R), R repeats per cell.

    Effect (tuple of factor numbers) -> (df, SS (B,)); ``()`` is the residual: within cells if R > 1, else the highest
    interaction. Balanced, so that Type I, II and III agree.
    """
    num_factors, repeats = values.ndim - 2, values.shape[-1]
    factors = tuple(range(num_factors))
    size = math.prod(values.shape[1:])
    subsets = [subset for order in range(num_factors + 1) for subset in itertools.combinations(factors, order)]
    means = {subset: values.mean(axis=tuple(1 + f for f in range(num_factors + 1) if f not in subset), keepdims=True)
             for subset in subsets}
    result: dict[tuple[int, ...], tuple[int, np.ndarray]] = {}
    for subset in subsets[1:]:
        effect = sum(((-1) ** (len(subset) - len(part)) * means[part] for part in subsets if set(part) <= set(subset)),
                     start=np.zeros(1))
        levels = math.prod(values.shape[1 + f] for f in subset)
        squares = np.square(effect).reshape(len(values), -1).sum(1) * (size / levels)
        result[subset] = (math.prod(values.shape[1 + f] - 1 for f in subset), squares)
    if repeats > 1:
        inside = np.square(values - means[factors]).reshape(len(values), -1).sum(1)
        result[()] = (size - size // repeats, inside)
    else:
        result[()] = result.pop(factors)
    return result


@dataclass(frozen=True)
class Effect:
    """One line of the analysis of variance. ``omega2`` = (SS - df MSE) / (SS_total + MSE), may be slightly below 0."""

    factors: tuple[int, ...]
    df: int
    ss: float
    omega2: float
    lo: float
    hi: float
    p: float


def omega_squared(values: np.ndarray, *, num_boot: int = 1000, ci: float = 0.95, seed: int = 0) -> list[Effect]:
    """Effects of a balanced factorial (L_1, ..., L_F, R) and, last, its residual (``factors`` = ()).

    Interval by resampling the repeats inside each cell (R >= 3), p of the F test. Olejnik & Algina 2003.
    """
    table = sums_of_squares(values[None])
    omega = _omega(table)
    intervals: dict[tuple[int, ...], tuple[float, float]] = {}
    if values.shape[-1] >= 3:
        rng = np.random.default_rng(seed)
        take = rng.integers(0, values.shape[-1], (num_boot, *values.shape))
        samples = np.take_along_axis(np.broadcast_to(values, take.shape), take, axis=-1)
        omegas = _omega(sums_of_squares(samples))
        # Resampling adds seed noise to effects that already hold some: centre the samples on the estimate.
        intervals = {factors: percentiles(sample - sample.mean() + omega[factors][0], ci)
                     for factors, sample in omegas.items()}
    df_error, ss_error = table[()]
    effects = []
    for factors in sorted(table, key=lambda factors: (not factors, len(factors), factors)):
        df, ss = table[factors]
        p = math.nan
        if factors and df_error and ss_error[0] > 0:
            p = float(stats.f.sf((ss[0] / df) / (ss_error[0] / df_error), df, df_error))
        share = float(omega[factors][0]) if factors else math.nan
        low, high = intervals.get(factors, NAN) if factors else NAN
        effects.append(Effect(factors, df, float(ss[0]), share, low, high, p))
    return effects


def _omega(table: dict[tuple[int, ...], tuple[int, np.ndarray]]) -> dict[tuple[int, ...], np.ndarray]:
    df_error, ss_error = table[()]
    mse = ss_error / df_error if df_error else np.full_like(ss_error, math.nan)
    total = np.sum([ss for _, ss in table.values()], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {factors: (ss - df * mse) / (total + mse) for factors, (df, ss) in table.items()}


def typical_swing(values: np.ndarray, axis: int) -> float:
    """Mean |difference| of two cell means when only the factor ``axis`` changes: the effect in units of the score."""
    cells = np.moveaxis(values.mean(-1), axis, 0)
    pairs = list(itertools.combinations(range(len(cells)), 2))
    return float(np.mean([np.abs(cells[i] - cells[j]).mean() for i, j in pairs])) if pairs else math.nan


# --- ranking -------------------------------------------------------------------------------------------------------


def friedman(blocks: np.ndarray) -> tuple[float, float]:
    """(chi-squared, p) over (blocks, treatments): do the mean ranks differ?

    NaN below 3 treatments or 2 blocks, or if all tie.
    """
    if blocks.shape[1] < 3 or len(blocks) < 2 or not np.ptp(blocks, axis=1).any():
        return NAN
    statistic, p = stats.friedmanchisquare(*blocks.T)
    return float(statistic), float(p)


def wilcoxon(difference: np.ndarray) -> float:
    """Two-sided signed-rank p of paired differences; NaN if all are zero. Exact for small n: at least 2 / 2**n."""
    return float(stats.wilcoxon(difference).pvalue) if np.any(difference) else math.nan


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment of a family of p-values; NaN stays NaN and does not count (Holm 1979)."""
    adjusted = np.full(len(p), math.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def probability_of_improvement(first: np.ndarray, second: np.ndarray) -> float:
    """P(first > second) over all pairs, ties counted half (Agarwal et al., NeurIPS 2021)."""
    return float((first[:, None] > second[None, :]).mean() + 0.5 * (first[:, None] == second[None, :]).mean())
