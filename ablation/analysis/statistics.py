"""Estimates and their intervals, arrays in, arrays out. NaN means: cannot be told from these numbers.

Every interval here keeps its level in simulated studies of known truth (docs/results/statistics.md). Percentile
bootstraps do not at 5 seeds or 5 methods: their standard error lacks a factor sqrt(n / (n - 1)) and their quantiles
the tails of Student's t, which is why both are put back.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy import stats

Statistic = Literal["mean", "median", "iqm"]
Interval = tuple[float, float]
NAN = (math.nan, math.nan)
LEAST_DF = 2
"""With one degree of freedom an interval is 12.7 standard errors wide: true, and of no use."""
SMOOTHING = 0.5
"""Kernel width of the bootstrap in deviations inside cells: the median of few values is a step function without."""


def location(values: np.ndarray, stat: Statistic) -> np.ndarray:
    """Mean, median or interquartile mean over the last axis. IQM = mean of the middle half (Agarwal et al. 2021)."""
    if stat == "iqm":
        middle: np.ndarray = stats.trim_mean(values, 0.25, axis=-1)
        return middle
    return np.asarray(values.mean(-1) if stat == "mean" else np.median(values, axis=-1))


def interval(values: np.ndarray, cells: np.ndarray, stat: Statistic, ci: float, num_boot: int, seed: int,
             units: np.ndarray | None = None, strata: np.ndarray | None = None) -> Interval:
    """Confidence interval of ``location`` over (N,) values of fixed ``cells`` (N,), where ``units`` are what varies.

    A unit (N,) is what several trials share: those of one seed and level see the same pictures, whatever their method
    and backbone, so they are no independent values. ``strata`` (N,) are the levels, inside which units are
    exchangeable. Default: every value its own unit, every cell a stratum. Mean: Student t on the units' sums of
    residuals. Others: t times the standard error of a smoothed bootstrap of units (as rliable's, Agarwal et al. 2021,
    made wide enough). NaN below 2 degrees of freedom, which are units less strata.
    """
    units = np.arange(len(values)) if units is None else units
    strata = cells if strata is None else strata
    _, cell, counts = np.unique(cells, return_inverse=True, return_counts=True)
    residuals = values - (np.bincount(cell, values) / counts)[cell]
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    _, stratum, sizes = np.unique(strata[first], return_inverse=True, return_counts=True)
    df = len(first) - len(sizes)
    if df < LEAST_DF:
        return NAN
    stretch = np.sqrt(sizes / np.maximum(sizes - 1, 1))[stratum]
    if stat == "mean":
        error = math.sqrt(float(np.square(np.bincount(unit, residuals) * stretch).sum())) / len(values)
    else:
        error = _bootstrap_error(values - residuals, residuals, cell, unit, stratum, stretch, stat, num_boot, seed)
    half = float(stats.t.ppf((1 + ci) / 2, df)) * error
    centre = float(location(values, stat))
    return centre - half, centre + half


def _bootstrap_error(centres: np.ndarray, residuals: np.ndarray, cell: np.ndarray, unit: np.ndarray,
                     stratum: np.ndarray, stretch: np.ndarray, stat: Statistic, num_boot: int, seed: int) -> float:
    """Units change places inside their stratum and take the residuals of all their cells along."""
    rng = np.random.default_rng(seed)
    table = np.zeros((cell.max() + 1, len(stratum)))
    table[cell, unit] = residuals * stretch[unit]
    drawn = np.empty((num_boot, len(stratum)), int)
    for name in range(stratum.max() + 1):
        members = np.flatnonzero(stratum == name)
        drawn[:, members] = members[rng.integers(0, len(members), (num_boot, len(members)))]
    samples = table[cell, drawn[:, unit]]
    noise = SMOOTHING * math.sqrt(float(np.mean(np.square(table[cell, unit])))) * rng.standard_normal(samples.shape)
    samples = centres + (samples + noise) / math.sqrt(1 + SMOOTHING**2)
    return float(location(samples, stat).std(ddof=1))


def paired_difference(differences: np.ndarray, cells: np.ndarray, ci: float, units: np.ndarray | None = None,
                      strata: np.ndarray | None = None) -> tuple[float, float, float, float, int]:
    """(mean, lo, hi, p, df) of paired differences (N,) in fixed ``cells`` (N,): ``interval`` of their mean.

    p is two-sided for a mean of 0. NaN below 2 degrees of freedom.
    """
    mean = float(differences.mean())
    units = np.arange(len(differences)) if units is None else units
    strata = cells if strata is None else strata
    lo, hi = interval(differences, cells, "mean", ci, 0, 0, units, strata)
    df = len(np.unique(units)) - len(np.unique(strata))
    if not math.isfinite(lo):
        return mean, lo, hi, math.nan, df
    error = (hi - lo) / 2 / float(stats.t.ppf((1 + ci) / 2, df))
    p = float(2 * stats.t.sf(abs(mean) / error, df)) if error > 0 else math.nan
    return mean, lo, hi, p, df


def paired_ratio(first: np.ndarray, second: np.ndarray, cells: np.ndarray, ci: float, units: np.ndarray,
                 strata: np.ndarray) -> tuple[float, float, float]:
    """(ratio, lo, hi) of the mean of ``first`` (N,) to that of ``second`` (N,), by Fieller's theorem (1954) on the
    errors of ``paired_difference``. NaN where the mean of ``second`` is not told from 0: a share of nothing."""
    ends = [paired_difference(values, cells, ci, units, strata)[:3] for values in (first, second, first - second)]
    (top, below, _), (base, *span), _ = ends
    if not (math.isfinite(below) and (span[0] > 0 or span[1] < 0)):
        return math.nan, *NAN
    one, two, both = (((hi - lo) / 2) ** 2 for _, lo, hi in ends)
    a, b, c = base**2 - two, top * base - (one + two - both) / 2, top**2 - one
    half = math.sqrt(max(b**2 - a * c, 0.0))
    return top / base, (b - half) / a, (b + half) / a


def mover(first: float, first_interval: Interval, second: float, second_interval: Interval) -> Interval:
    """Interval of ``first`` - ``second`` from an interval of each (MOVER: Zou & Donner, Stat. Med. 2008)."""
    (l1, u1), (l2, u2) = first_interval, second_interval
    centre = first - second
    return centre - math.hypot(first - l1, u2 - second), centre + math.hypot(u1 - first, second - l2)


def percentiles(samples: np.ndarray, ci: float) -> Interval:
    """The middle ``ci`` of bootstrap samples; NaN without finite ones."""
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return NAN
    low, high = np.quantile(samples, [(1 - ci) / 2, (1 + ci) / 2])
    return float(low), float(high)


def skewed_mean(values: np.ndarray, ci: float) -> tuple[float, float, float]:
    """(mean, lo, hi) of non-negative, right-skewed values such as regrets: Student t on the scale of the logarithm
    (delta method), so that the interval stays above 0. NaN below 3 values; (0, 0, 0) if all are 0."""
    mean = float(values.mean())
    if len(values) < 1 + LEAST_DF or mean <= 0:
        return (mean, *NAN) if mean > 0 or len(values) < 1 + LEAST_DF else (0.0, 0.0, 0.0)
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) / mean
    factor = math.exp(float(stats.t.ppf((1 + ci) / 2, len(values) - 1)) * error)
    return mean, mean / factor, mean * factor


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment of a family of p-values; NaN stays NaN and does not count (Holm 1979)."""
    adjusted = np.full(len(p), math.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
