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


def interval(values: np.ndarray, cells: np.ndarray, stat: Statistic, ci: float, num_boot: int, seed: int) -> Interval:
    """Confidence interval of ``location`` over (N,) values of fixed ``cells`` (N,), where seeds are what varies.

    Mean: Student t with the variance inside cells. Others: t times the standard error of a stratified, smoothed
    bootstrap (as rliable's, Agarwal et al. 2021, made wide enough). NaN below 2 degrees of freedom.
    """
    names, place, counts = np.unique(cells, return_inverse=True, return_counts=True)
    df = len(values) - len(names)
    if df < LEAST_DF:
        return NAN
    means = np.bincount(place, values) / counts
    residuals = values - means[place]
    variance = float(residuals @ residuals) / df
    if stat == "mean":
        error = math.sqrt(variance / len(values))
    else:
        error = _bootstrap_error(means[place], residuals, place, counts, variance, stat, num_boot, seed)
    half = float(stats.t.ppf((1 + ci) / 2, df)) * error
    centre = float(location(values, stat))
    return centre - half, centre + half


def _bootstrap_error(centres: np.ndarray, residuals: np.ndarray, place: np.ndarray, counts: np.ndarray,
                     variance: float, stat: Statistic, num_boot: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    stretch = np.sqrt(counts / np.maximum(counts - 1, 1))
    samples = np.empty((num_boot, len(residuals)))
    for cell, count in enumerate(counts):
        members = np.flatnonzero(place == cell)
        take = rng.integers(0, count, (num_boot, count))
        samples[:, members] = residuals[members][take] * stretch[cell]
    noise = SMOOTHING * math.sqrt(variance) * rng.standard_normal(samples.shape)
    samples = centres + (samples + noise) / math.sqrt(1 + SMOOTHING**2)
    return float(location(samples, stat).std(ddof=1))


def paired_difference(differences: np.ndarray, cells: np.ndarray, ci: float) -> tuple[float, float, float, float, int]:
    """(mean, lo, hi, p, df) of paired differences (N,) in fixed ``cells`` (N,): Student's t on the spread inside cells.

    p is two-sided for a mean of 0. NaN below 2 degrees of freedom.
    """
    mean = float(differences.mean())
    lo, hi = interval(differences, cells, "mean", ci, 0, 0)
    df = len(differences) - len(np.unique(cells))
    if not math.isfinite(lo):
        return mean, lo, hi, math.nan, df
    error = (hi - lo) / 2 / float(stats.t.ppf((1 + ci) / 2, df))
    p = float(2 * stats.t.sf(abs(mean) / error, df)) if error > 0 else math.nan
    return mean, lo, hi, p, df


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
