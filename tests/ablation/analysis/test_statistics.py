"""Estimates and intervals equal hand values and other people's code; coverage: test_simulated_studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ablation.analysis.statistics import (
    Statistic,
    holm,
    interval,
    location,
    mover,
    paired_difference,
    paired_ratio,
    skewed_mean,
)

ONE_CELL = np.array(["a"] * 5)
VALUES = np.array([0.70, 0.72, 0.75, 0.71, 0.74])


def test_the_interquartile_mean_drops_a_quarter_on_each_side() -> None:
    values = np.array([0.0, 1, 2, 3, 4, 5, 6, 100])
    assert location(values, "iqm") == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert location(values, "median") == 3.5
    assert location(values, "mean") == pytest.approx(121 / 8)


def test_the_mean_of_one_cell_has_the_t_interval() -> None:
    expected = stats.ttest_1samp(VALUES, 0).confidence_interval(0.95)
    assert interval(VALUES, ONE_CELL, "mean", 0.95, 10, 0) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("stat", ["mean", "median", "iqm"])
def test_two_seeds_have_no_interval(stat: Statistic) -> None:
    assert all(map(math.isnan, interval(np.array([0.7, 0.8]), ONE_CELL[:2], stat, 0.95, 100, 0)))
    assert all(map(math.isnan, interval(np.array([0.7, 0.8, 0.9]), np.array(["a", "b", "c"]), stat, 0.95, 100, 0)))


@pytest.mark.parametrize("stat", ["mean", "median", "iqm"])
def test_cells_do_not_widen_an_interval_over_seeds(stat: Statistic) -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 20)
    cells = np.repeat(["a", "b"], 10)
    together = interval(noise + (cells == "b") * 0.001, cells, stat, 0.95, 2000, 0)
    apart = interval(noise + (cells == "b") * 5.0, cells, "mean", 0.95, 2000, 0)
    assert apart[1] - apart[0] < 0.02
    assert together[0] < location(noise, stat) + 0.0005 < together[1]


def test_the_bootstrap_of_the_iqm_is_as_wide_as_theory_says() -> None:
    """Of normal values the 25 % trimmed mean has 1.195 times the variance of the mean (Huber & Ronchetti, 2009)."""
    values = np.random.default_rng(0).normal(size=400)
    low, high = interval(values, np.zeros(400), "iqm", 0.95, 4000, 0)
    assert (high - low) / 2 == pytest.approx(1.966 * values.std(ddof=1) * math.sqrt(1.195 / 400), rel=0.08)


def test_a_paired_difference_is_the_one_sample_t_test() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, 12)
    expected = stats.ttest_1samp(differences, 0)
    mean, lo, hi, p, df = paired_difference(differences, np.zeros(12), 0.95)
    assert (mean, p, df) == pytest.approx((differences.mean(), expected.pvalue, 11))
    assert (lo, hi) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    shifted = differences + np.repeat([-3.0, 3.0], 6)
    assert paired_difference(shifted, np.repeat([0, 1], 6), 0.95)[2] < 2  # what sets cells apart is not noise


def test_values_that_share_a_unit_count_once() -> None:
    """Two backbones on the same five subsets: the t test of the five means."""
    rng = np.random.default_rng(0)
    subset = rng.normal(size=5)
    values = np.concatenate([subset + 0.1 * rng.normal(size=5), 3 + subset + 0.1 * rng.normal(size=5)])
    cells, units = np.repeat(["a", "b"], 5), np.tile(np.arange(5), 2)
    expected = stats.ttest_1samp(values.reshape(2, 5).mean(0), 0).confidence_interval(0.95)
    assert interval(values, cells, "mean", 0.95, 0, 0, units, np.zeros(10)) == pytest.approx(
        (expected.low, expected.high))
    alone, shared = (interval(values, cells, "iqm", 0.95, 2000, 0, *more) for more in ((), (units, np.zeros(10))))
    assert shared[1] - shared[0] > 1.2 * (alone[1] - alone[0])


def test_mover_of_two_normal_estimates_is_the_normal_interval() -> None:
    """Zou & Donner 2008: with symmetric intervals it is first - second ± sqrt(a² + b²)."""
    assert mover(5.0, (4.0, 6.0), 2.0, (1.0, 3.0)) == pytest.approx((3 - math.sqrt(2), 3 + math.sqrt(2)))
    low, high = mover(0.5, (0.4, 0.8), 0.1, (0.0, 0.15))
    assert (low, high) == pytest.approx((0.4 - math.hypot(0.1, 0.05), 0.4 + math.hypot(0.3, 0.1)))


def test_a_skewed_mean_stays_above_zero() -> None:
    mean, lo, hi = skewed_mean(np.array([0.0, 0, 0, 0.02, 0.3]), 0.95)
    assert 0 < lo < mean < hi
    assert skewed_mean(np.zeros(5), 0.95) == (0, 0, 0)
    assert math.isnan(skewed_mean(np.array([0.1, 0.2]), 0.95)[1])
    even = np.random.default_rng(0).normal(10, 0.1, 200)  # small against its mean: the plain t interval
    expected = stats.ttest_1samp(even, 0).confidence_interval(0.95)
    assert skewed_mean(even, 0.95)[1:] == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_holm_equals_statsmodels_and_leaves_nan_out() -> None:
    p = np.array([0.01, math.nan, 0.04, 0.03, 0.9, 0.001])
    adjusted, known = holm(p), np.isfinite(p)
    assert adjusted[known] == pytest.approx(multipletests(p[known], method="holm")[1])
    assert math.isnan(adjusted[1])


def test_a_ratio_of_paired_means_has_fiellers_interval() -> None:
    """The ends are the ratios r at which first - r * second is just not told from 0; of nothing there is no share."""
    rng = np.random.default_rng(0)
    second = rng.normal(1, 0.5, 12)
    first = 0.6 * second + rng.normal(0, 0.2, 12)
    cells, units = np.repeat([0, 1], 6), np.tile(np.arange(6), 2)
    ratio, lo, hi = paired_ratio(first, second, cells, 0.95, units, np.zeros(12))
    assert ratio == pytest.approx(first.mean() / second.mean())
    for end in (lo, hi):
        assert paired_difference(first - end * second, cells, 0.95, units, np.zeros(12))[3] == pytest.approx(0.05)
    assert lo < ratio < hi
    assert all(map(math.isnan, paired_ratio(first, second - second.mean(), cells, 0.95, units, np.zeros(12))))
