"""The statistics equal hand values and other people's code, and keep their promises in simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ablation.analysis.statistics import (
    between_correlation,
    friedman,
    holm,
    interval,
    location,
    omega_squared,
    pooled_correlation,
    probability_of_improvement,
    sums_of_squares,
    typical_swing,
    wilcoxon,
    within_correlation,
)

ONE_CELL = np.array(["a"] * 5)


def test_the_interquartile_mean_drops_a_quarter_on_each_side() -> None:
    values = np.array([0.0, 1, 2, 3, 4, 5, 6, 100])
    assert location(values, "iqm") == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert location(values, "median") == 3.5
    assert location(values, "mean") == pytest.approx(121 / 8)


def test_the_mean_of_one_cell_has_the_t_interval() -> None:
    values = np.array([0.70, 0.72, 0.75, 0.71, 0.74])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval(values, ONE_CELL, "mean", 0.95, 10, 0) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("stat", ["mean", "median", "iqm"])
def test_two_seeds_have_no_interval(stat: str) -> None:
    low, high = interval(np.array([0.7, 0.8]), ONE_CELL[:2], stat, 0.95, 100, 0)  # type: ignore[arg-type]
    assert math.isnan(low)
    assert math.isnan(high)


def test_the_bootstrap_is_stratified_so_that_cells_do_not_widen_it() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, 20)
    cells = np.repeat(["a", "b"], 10)
    low, high = interval(noise + (cells == "b") * 5.0, cells, "mean", 0.95, 2000, 0)
    assert high - low < 0.02
    assert low < 2.5 + noise.mean() < high


def test_the_bootstrap_interval_covers_in_simulation() -> None:
    rng = np.random.default_rng(1)
    cells = np.repeat(["a", "b", "c", "d"], 5)
    shifts = np.repeat([0.0, 1, 2, 3], 5)
    hits = 0
    for _ in range(200):
        low, high = interval(shifts + rng.normal(0, 1, 20), cells, "mean", 0.95, 300, 0)
        hits += low <= 1.5 <= high
    assert 0.82 < hits / 200 < 0.97  # a percentile bootstrap of 5 seeds is known to be somewhat too narrow


def simpson(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Methods with a higher x have a higher y; inside each method y falls with x."""
    groups = np.repeat(np.arange(5), 50)
    inside = rng.normal(0, 1, 250)
    return 10 * groups + inside, 10 * groups - 0.5 * inside + rng.normal(0, 0.5, 250), groups


def test_simpson_pooled_and_between_are_positive_while_within_is_negative() -> None:
    x, y, groups = simpson(np.random.default_rng(0))
    within = within_correlation(x, y, groups)
    assert within.n == 250
    assert within.rho < -0.5
    assert within.hi < 0
    assert within.p < 0.01
    between = between_correlation(x, y, groups)
    assert between.rho == pytest.approx(1)
    assert between.p == pytest.approx(2 / 120)  # all orders of five means
    pooled = pooled_correlation(x, y, groups)
    assert pooled.rho > 0.9
    assert math.isnan(pooled.p)


def test_within_has_its_nominal_error_where_plain_spearman_cries_wolf() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(5), 20)
    plain = within = 0
    for run in range(150):
        x, y = (rng.normal(0, 3, 5)[groups] + rng.normal(0, 1, 100) for _ in range(2))
        plain += stats.spearmanr(x, y).pvalue < 0.05
        within += within_correlation(x, y, groups, num_boot=2, num_perm=199, seed=run).p < 0.05
    assert plain / 150 > 0.5
    assert within / 150 < 0.11


def test_within_one_group_is_plain_spearman() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    found = within_correlation(x, y, np.zeros(30, int))
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.lo < found.rho < found.hi


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_values_have_no_correlation(count: int) -> None:
    values = np.arange(count, dtype=float)
    for test in (within_correlation, between_correlation, pooled_correlation):
        assert math.isnan(test(values, values, np.zeros(count, int)).rho)


def test_a_constant_has_no_correlation() -> None:
    groups = np.repeat([0, 1, 2], 4)
    assert math.isnan(within_correlation(np.ones(12), np.arange(12.0), groups).rho)
    assert math.isnan(pooled_correlation(np.ones(12), np.arange(12.0), groups).rho)


def test_one_way_sums_of_squares_equal_the_f_test() -> None:
    values = np.random.default_rng(0).normal(size=(4, 6)) + np.arange(4)[:, None]
    method, residual = omega_squared(values)
    assert method.p == pytest.approx(stats.f_oneway(*values).pvalue)
    assert (method.df, residual.df) == (3, 20)


def test_two_way_hand_example() -> None:
    # Cells (2 x 2) with two repeats: means 2, 4 / 6, 12; every repeat is one off its mean.
    values = np.array([[[1.0, 3], [3, 5]], [[5, 7], [11, 13]]])
    table = {factors: (df, float(ss[0])) for factors, (df, ss) in sums_of_squares(values[None]).items()}
    assert table == {(0,): (1, 72.0), (1,): (1, 32.0), (0, 1): (1, 8.0), (): (4, 8.0)}
    effects = {effect.factors: effect for effect in omega_squared(values)}
    assert effects[(0,)].omega2 == pytest.approx((72 - 2) / (120 + 2))
    assert typical_swing(values, 0) == pytest.approx((4 + 8) / 2)
    assert typical_swing(values, 1) == pytest.approx((2 + 6) / 2)


def test_sums_of_squares_of_three_factors_add_up() -> None:
    values = np.random.default_rng(0).normal(size=(1, 5, 2, 4, 3))
    table = sums_of_squares(values)
    assert sum(ss for _, ss in table.values())[0] == pytest.approx(((values - values.mean()) ** 2).sum())  # type: ignore[index]
    assert sum(df for df, _ in table.values()) == values.size - 1
    assert len(table) == 8


def test_omega_squared_finds_the_factor_that_matters_and_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    method = np.array([0.0, 1, 2, 3, 4])[:, None, None, None]
    effects = {e.factors: e for e in omega_squared(method + rng.normal(0, 0.5, (5, 2, 5, 5)))}
    truth = 2.0 / (2.0 + 0.25)  # variance of the method means over the total
    assert effects[(0,)].omega2 == pytest.approx(truth, abs=0.05)
    assert effects[(0,)].lo < effects[(0,)].omega2 < effects[(0,)].hi
    assert abs(effects[(1,)].omega2) < 0.02
    assert effects[(0,)].p < 1e-6


def test_one_repeat_takes_the_highest_interaction_as_noise() -> None:
    effects = omega_squared(np.random.default_rng(0).normal(size=(3, 4, 1)))
    assert [effect.factors for effect in effects] == [(0,), (1,), ()]
    assert effects[-1].df == 6
    assert math.isnan(effects[0].lo)


def test_holm_by_hand() -> None:
    adjusted = holm(np.array([0.01, math.nan, 0.04, 0.03]))
    assert adjusted[[0, 2, 3]] == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(adjusted[1])


def test_friedman_and_wilcoxon_small_cases() -> None:
    blocks = np.array([[1.0, 2, 3]] * 4)
    assert friedman(blocks)[0] == pytest.approx(8.0)  # perfect agreement: N (k - 1)
    assert math.isnan(friedman(blocks[:, :2])[0])
    assert math.isnan(friedman(np.ones((4, 3)))[1])  # all tied
    assert wilcoxon(np.arange(1.0, 7)) == pytest.approx(2 / 2**6)
    assert math.isnan(wilcoxon(np.zeros(5)))


def test_probability_of_improvement_counts_ties_half() -> None:
    assert probability_of_improvement(np.array([1.0, 2]), np.array([1.0, 0])) == pytest.approx((0.5 + 1 + 1 + 1) / 4)


def test_omega_intervals_cover_the_truth_in_simulation() -> None:
    rng = np.random.default_rng(0)
    cells = np.arange(5)[:, None, None] * 0.5 + np.array([0, 0.3])[None, :, None]
    total = 0.5 + 0.0225 + 0.25
    truth = {(0,): 0.5 / total, (1,): 0.0225 / total, (0, 1): 0.0}
    hits = dict.fromkeys(truth, 0)
    for run in range(60):
        values = cells[..., None] + rng.normal(0, 0.5, (5, 2, 5, 5))
        effects = {effect.factors: effect for effect in omega_squared(values, num_boot=200, seed=run)}
        for factors in truth:
            hits[factors] += effects[factors].lo <= truth[factors] <= effects[factors].hi
    assert min(hits.values()) / 60 > 0.8
