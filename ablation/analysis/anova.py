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


def errors(values: np.ndarray, table: Effects, shared: int | None) -> tuple[tuple[int, float], tuple[int, float]]:
    """(df, mean square) of the noise of effects of factor ``shared`` alone, and of all others; (0, NaN) without any.

    The repeat r of a level of ``shared`` is one set of pictures for all cells of that level (split-plot design): what
    sets repeats apart is the error of the level's own effect and no error of anything else. Null: no such factor.
    """
    df, ss = table[()]
    if shared is None or values.shape[-1] < 2 or values.ndim < 3:
        own = (df, ss / df if df else math.nan)
        return own, own
    kept = (shared, values.ndim - 1)
    means = values.mean(axis=tuple(axis for axis in range(values.ndim) if axis not in kept))
    levels, repeats = means.shape
    whole = float(np.square(means - means.mean(-1, keepdims=True)).sum()) * values.size / means.size
    whole_df = levels * (repeats - 1)
    rest_df = df - whole_df
    rest = (rest_df, max(0.0, ss - whole) / rest_df) if rest_df else (0, math.nan)
    return (whole_df, whole / whole_df), rest


def omega_squared(values: np.ndarray, ci: float = 0.95, shared: int | None = None) -> list[Effect]:
    """Effects of a balanced factorial (L_1, ..., L_F, R) and, last, its residual (``factors`` = ()).

    ``shared``: see ``errors``. omega2 = (SS - df MS_error) / (SS_total + MS_error), Olejnik & Algina, Psychol. Methods
    2003; p of the F test. Interval: of effect over rest by MOVER-R (Donner & Zou, Stat. Methods Med. Res. 2012) from
    noncentral and central chi-squared intervals of every component; needs repeats.
    """
    table = sums_of_squares(values)
    whole, rest = errors(values, table, shared)
    total = sum(ss for _, ss in table.values())
    error = {factors: whole if factors == (shared,) else rest for factors in table if factors}
    known = values.shape[-1] > 1 and rest[0] > 0 and rest[1] > 0 and whole[1] > 0
    parts = {factors: _component(ss, df, error[factors][1], values.size, ci)
             for factors, (df, ss) in table.items() if factors} if known else {}
    noise = _noise(table[()], whole, rest, shared, ci) if known else []
    effects = []
    for factors in sorted(table, key=lambda factors: (not factors, len(factors), factors)):
        df, ss = table[factors]
        if not factors:
            effects.append(Effect(factors, df, ss, math.nan, *NAN, math.nan))
            continue
        df_error, mse = error[factors]
        omega = (ss - df * mse) / (total + mse) if total + mse > 0 else math.nan
        p = float(stats.f.sf(ss / df / mse, df, df_error)) if mse > 0 else math.nan
        lo, hi = NAN
        if known:
            others = add([part for name, part in parts.items() if name != factors] + noise)
            lo, hi = (ratio / (1 + ratio) for ratio in mover_ratio(parts[factors], others))
        effects.append(Effect(factors, df, ss, omega, lo, hi, p))
    return effects


def swing(values: np.ndarray, axis: int, ci: float = 0.95, shared: int | None = None) -> Swing:
    """How far a score moves when factor ``axis`` of a balanced factorial (L_1, ..., L_F, R) alone changes.

    sqrt(2 (MS - MS_error) / R), MS over all effects that hold the factor: interactions count. ``shared``: see
    ``errors``. Interval from noncentral chi-squared intervals, those of different errors added by MOVER; NaN without
    repeats.
    """
    table = sums_of_squares(values)
    whole, rest = errors(values, table, shared)
    if values.shape[-1] < 2 or not (rest[1] > 0 and whole[1] > 0):
        return Swing(math.nan, *NAN)
    mine = {factors: part for factors, part in table.items() if axis in factors}
    df = sum(part[0] for part in mine.values())
    main = [part for factors, part in mine.items() if factors == (shared,)]
    others = [part for factors, part in mine.items() if factors != (shared,)]
    groups = [(group, mse) for group, mse in ((main, whole[1]), (others, rest[1])) if group]
    squares = [_component(sum(ss for _, ss in group), sum(n for n, _ in group), mse, df * values.shape[-1] / 2, ci)
               for group, mse in groups]
    value, lo, hi = add(squares)
    return Swing(*(math.sqrt(max(0.0, square)) for square in (value, lo, hi)))


Estimate = tuple[float, float, float]
"""Value, lower and upper end."""


def _component(ss: float, df: int, mse: float, size: float, ci: float) -> Estimate:
    """What an effect adds to the variance: (SS - df MS_error) / size, with its interval, MS_error taken as known."""
    shift = ss / mse
    low, high = _bounds(lambda bound: stats.ncx2.cdf(shift, df, bound) if bound > 0 else stats.chi2.cdf(shift, df),
                        shift, ci)
    return max(0.0, ss - df * mse) / size, low * mse / size, high * mse / size


def _noise(within: tuple[int, float], whole: tuple[int, float], rest: tuple[int, float], shared: int | None,
           ci: float) -> list[Estimate]:
    """Noise variance, in its independent parts: of the subsets and of the rest, or all in one."""
    parts = [rest] if shared is None else [whole, rest]
    shares = [(df, df * mse / within[0]) for df, mse in parts]
    low, high = (1 + ci) / 2, (1 - ci) / 2
    return [(share, float(share * df / stats.chi2.ppf(low, df)), float(share * df / stats.chi2.ppf(high, df)))
            for df, share in shares]


def add(parts: list[Estimate]) -> Estimate:
    """Sum of independent estimates with its interval (MOVER: Zou & Donner, Stat. Med. 2008)."""
    value = sum(part[0] for part in parts)
    below, above = (math.sqrt(sum((part[0] - part[end]) ** 2 for part in parts)) for end in (1, 2))
    return value, max(0.0, value - below), value + above


def mover_ratio(first: Estimate, second: Estimate) -> Interval:
    """Interval of a ratio of two non-negative estimates (MOVER-R, Donner & Zou 2012)."""
    (a, l1, u1), (b, l2, u2) = first, second

    def bound(end: float, other: float, sign: int) -> float:
        scale = other * (2 * b - other)
        if scale <= 0:  # a denominator so uncertain that the formula ends: the plain ratio of the ends is wider
            return end / other if other > 0 else math.inf
        root = math.sqrt(max(0.0, (a * b) ** 2 - end * (2 * a - end) * scale))
        return max(0.0, (a * b + sign * root) / scale)

    return bound(l1, u2, -1), bound(u1, l2, 1)


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
