"""Analysis of variance of balanced factorials: which factor moves a score, and by how much."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from ablation.analysis.statistics import NAN, Interval

Effects = dict[tuple[int, ...], tuple[int, float]]


@dataclass(frozen=True)
class Effect:
    """One line of the table. ``omega2`` = (SS - df MSE) / (SS_total + MSE), may be slightly below 0."""

    factors: tuple[int, ...]
    df: int
    ss: float
    omega2: float
    lo: float
    hi: float
    p: float


@dataclass(frozen=True)
class Swing:
    """Root mean square difference of two cells that differ in one factor only, in units of the score, noise removed."""

    value: float
    lo: float
    hi: float


def sums_of_squares(values: np.ndarray) -> Effects:
    """Of a balanced factorial (L_1, ..., L_F, R), R repeats per cell.

    Effect (tuple of factor numbers) -> (df, SS); ``()`` is the residual: within cells if R > 1, else the highest
    interaction. Balanced, so that Type I, II and III agree.
    """
    num_factors, repeats = values.ndim - 1, values.shape[-1]
    factors = tuple(range(num_factors))
    subsets = [subset for order in range(num_factors + 1) for subset in itertools.combinations(factors, order)]
    means = {subset: values.mean(axis=tuple(f for f in range(num_factors + 1) if f not in subset), keepdims=True)
             for subset in subsets}
    result: Effects = {}
    for subset in subsets[1:]:
        effect = sum(((-1) ** (len(subset) - len(part)) * means[part] for part in subsets if set(part) <= set(subset)),
                     start=np.zeros(1))
        levels = math.prod(values.shape[f] for f in subset)
        df = math.prod(values.shape[f] - 1 for f in subset)
        result[subset] = (df, float(np.square(effect).sum()) * (values.size / levels))
    if repeats > 1:
        result[()] = (values.size - values.size // repeats, float(np.square(values - means[factors]).sum()))
    else:
        result[()] = result.pop(factors)
    return result


def omega_squared(values: np.ndarray, ci: float = 0.95) -> list[Effect]:
    """Effects of a balanced factorial (L_1, ..., L_F, R) and, last, its residual (``factors`` = ()).

    Interval from that of the noncentrality of F (Steiger, Psychol. Methods 2004), the other effects at their
    estimates; needs repeats. p of the F test. Omega squared: Olejnik & Algina, Psychol. Methods 2003.
    """
    table = sums_of_squares(values)
    df_error, ss_error = table[()]
    mse = ss_error / df_error if df_error else math.nan
    total = sum(ss for _, ss in table.values())
    shares = {factors: max(0.0, ss - df * mse) / values.size for factors, (df, ss) in table.items() if factors}
    effects = []
    for factors in sorted(table, key=lambda factors: (not factors, len(factors), factors)):
        df, ss = table[factors]
        omega = (ss - df * mse) / (total + mse) if factors and total + mse > 0 else math.nan
        p, (lo, hi) = math.nan, NAN
        if factors and mse > 0:
            p = float(stats.f.sf(ss / df / mse, df, df_error))
            if values.shape[-1] > 1:
                others = sum(share for name, share in shares.items() if name != factors) + mse
                low, high = (bound * mse / values.size for bound in noncentrality(ss / df / mse, df, df_error, ci))
                lo, hi = low / (low + others), high / (high + others)
        effects.append(Effect(factors, df, ss, omega, lo, hi, p))
    return effects


def swing(values: np.ndarray, axis: int, ci: float = 0.95) -> Swing:
    """How far a score moves when factor ``axis`` of a balanced factorial (L_1, ..., L_F, R) alone changes.

    sqrt(2 (MS - MSE) / R), MS over all effects that hold the factor: interactions count. Interval from the noncentral
    chi-squared of SS / MSE (MSE counts as known: here it cancels, unlike in omega squared); NaN without repeats.
    """
    table = sums_of_squares(values)
    df_error, ss_error = table[()]
    repeats = values.shape[-1]
    mse = ss_error / df_error if df_error and repeats > 1 else math.nan
    parts = [part for factors, part in table.items() if axis in factors]
    df, ss = sum(part[0] for part in parts), sum(part[1] for part in parts)
    if not mse > 0:
        return Swing(math.nan, *NAN)
    shift = ss / mse
    low, high = _bounds(lambda bound: stats.ncx2.cdf(shift, df, bound) if bound > 0 else stats.chi2.cdf(shift, df),
                        shift, ci)
    value = math.sqrt(max(0.0, 2 * (ss / df - mse) / repeats))
    return Swing(value, *(math.sqrt(2 * bound * mse / (df * repeats)) for bound in (low, high)))


def noncentrality(f: float, df: int, df_error: int, ci: float) -> Interval:
    """Interval of the noncentrality parameter of an F statistic; a bound is 0 where even 0 is too large."""
    return _bounds(lambda bound: stats.ncf.cdf(f, df, df_error, bound) if bound > 0 else stats.f.cdf(f, df, df_error),
                   f * df, ci)


def _bounds(cdf: Callable[[float], float], start: float, ci: float) -> Interval:
    """Parameters at which a statistic lies at its upper and lower quantile; ``cdf`` falls in the parameter."""

    def bound(quantile: float) -> float:
        def excess(value: float) -> float:  # far out the CDF underflows to NaN
            return float(np.nan_to_num(cdf(value))) - quantile

        if excess(0.0) <= 0:
            return 0.0
        high = start + 10.0
        while excess(high) > 0:
            high *= 1.5
        return float(optimize.brentq(excess, 0.0, high, xtol=1e-6, rtol=1e-8))

    return bound((1 + ci) / 2), bound((1 - ci) / 2)
