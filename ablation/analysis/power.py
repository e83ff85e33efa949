"""What the present number of seeds can show, and how many more would settle a difference."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, stats

POWER = 0.8
MAX_SEEDS = 1000


def power_of(difference: float, deviation: float, num_cells: int, num_seeds: int, alpha: float) -> float:
    """Chance that a two-sided t test of level ``alpha`` shows a true mean ``difference`` of paired values.

    ``deviation`` inside cells; df = cells x (seeds - 1). 0 below 2 degrees of freedom. Noncentral t (Cohen 1988).
    """
    df = num_cells * (num_seeds - 1)
    if df < 2 or not deviation > 0:
        return 0.0
    shift = abs(difference) / deviation * math.sqrt(num_cells * num_seeds)
    critical = float(stats.t.ppf(1 - alpha / 2, df))
    upper = float(np.nan_to_num(stats.nct.sf(critical, df, shift), nan=1.0))
    return upper + float(np.nan_to_num(stats.nct.cdf(-critical, df, shift)))


def smallest_difference(deviation: float, num_cells: int, num_seeds: int, alpha: float, power: float = POWER) -> float:
    """The true mean difference that ``power_of`` shows with probability ``power``; NaN below 2 degrees of freedom."""
    if num_cells * (num_seeds - 1) < 2 or not deviation > 0:
        return math.nan
    high = 10 * deviation / math.sqrt(num_cells * num_seeds)
    while power_of(high, deviation, num_cells, num_seeds, alpha) < power:
        high *= 2
    found = optimize.brentq(lambda d: power_of(d, deviation, num_cells, num_seeds, alpha) - power, 0.0, high)
    return float(found)


def seeds_needed(difference: float, deviation: float, num_cells: int, alpha: float, power: float = POWER) -> int | None:
    """Least seeds per cell that show ``difference`` with probability ``power``; None above 1,000."""

    def enough(num_seeds: int) -> bool:
        return power_of(difference, deviation, num_cells, num_seeds, alpha) >= power

    if not difference or not enough(MAX_SEEDS):
        return None
    low, high = 1, MAX_SEEDS  # low is too few, high is enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
