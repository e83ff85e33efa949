"""Rank tests over blocks, and how often one treatment beats another. Higher values are better throughout."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from ablation.analysis.statistics import NAN


def friedman(blocks: np.ndarray) -> tuple[float, float]:
    """(F, p) over (blocks, treatments): do the mean ranks differ?

    Friedman's test in the form of Iman & Davenport (1980), which keeps its level where chi-squared is too cautious.
    NaN below 3 treatments or 2 blocks, or if all tie.
    """
    num_blocks, num_treatments = blocks.shape
    if num_treatments < 3 or num_blocks < 2 or not np.ptp(blocks, axis=1).any():
        return NAN
    chi = float(stats.friedmanchisquare(*blocks.T).statistic)
    rest = num_blocks * (num_treatments - 1) - chi
    if rest <= 1e-9:  # every block has the same order
        return math.inf, math.factorial(num_treatments) ** -(num_blocks - 1)
    f = (num_blocks - 1) * chi / rest
    return f, float(stats.f.sf(f, num_treatments - 1, (num_treatments - 1) * (num_blocks - 1)))


def mean_ranks(blocks: np.ndarray) -> np.ndarray:
    """(treatments,) mean rank over (blocks, treatments), 1 = best, ties averaged."""
    ranks: np.ndarray = stats.rankdata(-blocks, axis=1).mean(0)
    return ranks


def critical_difference(num_treatments: int, num_blocks: int, alpha: float = 0.05) -> float:
    """Nemenyi's: mean ranks further apart than this differ. q sqrt(k (k + 1) / 6N) (Demšar, JMLR 2006)."""
    q = float(stats.studentized_range.ppf(1 - alpha, num_treatments, math.inf)) / math.sqrt(2)
    return q * math.sqrt(num_treatments * (num_treatments + 1) / (6 * num_blocks))


def nemenyi(difference: float, num_treatments: int, num_blocks: int) -> float:
    """p of a difference of two mean ranks, for all pairs at once."""
    error = math.sqrt(num_treatments * (num_treatments + 1) / (6 * num_blocks))
    return float(stats.studentized_range.sf(abs(difference) / error * math.sqrt(2), num_treatments, math.inf))


def wilcoxon(difference: np.ndarray) -> float:
    """Two-sided signed-rank p of paired differences; NaN if all are zero. Exact for small n: at least 2 / 2**n."""
    return float(stats.wilcoxon(difference).pvalue) if np.any(difference) else math.nan


def probability_of_improvement(first: list[np.ndarray], second: list[np.ndarray],
                               ci: float = 0.95) -> tuple[float, float, float]:
    """(P(first > second), lo, hi) over all pairs inside each cell, averaged over cells; ties count half.

    Agarwal et al., NeurIPS 2021; interval: Student t on DeLong's structural components, NaN where a cell has one run.
    """
    shares, variances, df = [], [], 0
    for a, b in zip(first, second, strict=True):
        wins = (a[:, None] > b[None]) + 0.5 * (a[:, None] == b[None])
        shares.append(float(wins.mean()))
        if len(a) > 1 and len(b) > 1:
            variances.append(wins.mean(1).var(ddof=1) / len(a) + wins.mean(0).var(ddof=1) / len(b))
            df += len(a) + len(b) - 2
    value = float(np.mean(shares))
    if len(variances) < len(shares) or df < 2:
        return (value, *NAN)
    half = float(stats.t.ppf((1 + ci) / 2, df)) * math.sqrt(float(np.sum(variances))) / len(shares)
    return value, max(0.0, value - half), min(1.0, value + half)


def performance_profile(cells: list[np.ndarray], thresholds: np.ndarray) -> np.ndarray:
    """(T,) share of runs above each threshold, every cell counting the same (Agarwal et al., NeurIPS 2021)."""
    share: np.ndarray = np.mean([(values[None] > thresholds[:, None]).mean(1) for values in cells], axis=0)
    return share


def cliques(ranks: np.ndarray, width: float) -> list[tuple[int, int]]:
    """Maximal runs of sorted treatments whose mean ranks lie within ``width``: (first, last) places, two or more."""
    order = np.sort(ranks)
    spans: list[tuple[int, int]] = []
    for first in range(len(order)):
        last = int(np.searchsorted(order, order[first] + width, side="right")) - 1
        if last > first and (not spans or last > spans[-1][1]):
            spans.append((first, last))
    return spans


def exact_p_floor(num_blocks: int) -> float:
    """The smallest p that ``wilcoxon`` can give."""
    return float(2 / 2**num_blocks)


