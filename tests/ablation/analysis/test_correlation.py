"""Rank correlation inside groups, between them and pooled: hand values, scipy, and what each may not be moved by."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ablation.analysis.correlation import (
    between_correlation,
    fisher_interval,
    pooled_correlation,
    within_correlation,
)

GROUPS = np.repeat(np.arange(5), 20)


def related(rng: np.random.Generator, rho: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=100)
    y = rho * x + math.sqrt(1 - rho**2) * rng.normal(size=100)
    return x + offset * rng.normal(size=5)[GROUPS], y + offset * rng.normal(size=5)[GROUPS]


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
    assert within.tau < -0.4
    between = between_correlation(x, y, groups)
    assert (between.rho, between.tau) == pytest.approx((1, 1))
    assert between.p == pytest.approx(2 / 120)  # all orders of five means
    pooled = pooled_correlation(x, y, groups)
    assert pooled.rho > 0.9
    assert math.isnan(pooled.p)


def test_one_group_is_plain_spearman_and_kendall() -> None:
    x, y = related(np.random.default_rng(0), 0.6, 0)
    one = np.zeros(100, int)
    expected = stats.spearmanr(x, y).statistic
    for found in (within_correlation(x, y, one), pooled_correlation(x, y, one)):
        assert found.rho == pytest.approx(expected)
        assert found.tau == pytest.approx(stats.kendalltau(x, y).statistic)
    found = within_correlation(x, y, one)
    assert (found.lo, found.hi) == pytest.approx(fisher_interval(expected, 100, 0.95), abs=0.02)
    tied = np.round(x), np.round(y)
    assert within_correlation(*tied, one).rho == pytest.approx(stats.spearmanr(*tied).statistic)
    assert within_correlation(*tied, one).tau == pytest.approx(stats.kendalltau(*tied).statistic)


def test_offsets_between_groups_change_nothing_within() -> None:
    x, y = related(np.random.default_rng(1), 0.5, 0)
    plain = within_correlation(x, y, GROUPS)
    moved = within_correlation(x + 100 * GROUPS, np.exp(y) - 9 * GROUPS, GROUPS)
    assert moved == plain


def test_a_permutation_p_is_that_of_scipy() -> None:
    x, y = (np.random.default_rng(seed).normal(size=7) for seed in (0, 1))
    exact = stats.permutation_test((x,), lambda v: stats.spearmanr(v, y).statistic, permutation_type="pairings",
                                   n_resamples=math.inf)
    found = within_correlation(x, y, np.zeros(7), num_perm=20_000)
    assert found.p == pytest.approx(exact.pvalue, abs=0.01)
    assert between_correlation(x, y, np.arange(7)).p == pytest.approx(exact.pvalue, abs=1e-9)


def test_partial_correlation_removes_what_the_level_explains() -> None:
    """y and x both follow the level, which is no line: ranks less their mean at each level, correlated."""
    rng = np.random.default_rng(0)
    level = np.repeat([0.0, 1, 2], 100)
    shift = np.array([0.0, 3, 1])[level.astype(int)]
    x, y = shift + rng.normal(size=300), shift + rng.normal(size=300)
    one, dummies = np.zeros(300), np.stack([level == 1, level == 2], axis=1).astype(float)
    plain, partial = within_correlation(x, y, one), within_correlation(x, y, one, control=dummies)
    assert plain.rho > 0.5
    left, right = (stats.rankdata(v) - np.repeat(stats.rankdata(v).reshape(3, 100).mean(1), 100) for v in (x, y))
    assert partial.rho == pytest.approx(np.corrcoef(left, right)[0, 1])
    assert abs(partial.rho) < 0.15
    assert pooled_correlation(x, y, np.arange(300) // 60, control=dummies).rho == pytest.approx(partial.rho)


def test_a_metric_that_the_control_explains_wholly_has_no_partial_correlation() -> None:
    level = np.repeat([0.01, 0.1, 0.5], 10)
    y = np.random.default_rng(0).normal(size=30)
    dummies = np.stack([level == 0.1, level == 0.5], axis=1).astype(float)
    assert math.isnan(within_correlation(level, y, np.zeros(30), control=dummies).rho)


def test_shuffling_inside_strata_only() -> None:
    """x and y differ between strata alone: inside them nothing is left to shuffle, so nothing is surprising."""
    level = np.repeat([0.0, 1.0, 2.0], 8)
    assert within_correlation(level, level, np.zeros(24)).p < 0.01
    assert within_correlation(level, level, np.zeros(24), units=np.arange(24) // 2, strata=level).p == 1


def test_what_all_trials_of_a_subset_share_is_one_value_not_many() -> None:
    """Eight cells see five subsets, which move both metrics, each by itself: 40 trials, five values."""
    calls = {"trials": 0, "subsets": 0}
    cells, units = np.repeat(np.arange(8), 5), np.tile(np.arange(5), 8)
    for run in range(200):
        rng = np.random.default_rng(run)
        x, y = (3 * rng.normal(size=5)[units] + rng.normal(size=40) for _ in range(2))
        calls["trials"] += within_correlation(x, y, cells, num_perm=199).p <= 0.05
        calls["subsets"] += within_correlation(x, y, cells, units=units, strata=np.zeros(40), num_perm=199).p <= 0.05
    assert calls["trials"] > 80
    assert calls["subsets"] < 22  # 5 % of 200, and four standard errors


def test_a_trial_that_is_missing_changes_little() -> None:
    rng = np.random.default_rng(0)
    cells, units = np.repeat(np.arange(20), 5), np.tile(np.arange(5), 20)
    x = rng.normal(size=100)
    y = x + rng.normal(size=100)
    whole = within_correlation(x, y, cells, units=units, strata=np.zeros(100))
    kept = np.arange(100) != 7
    part = within_correlation(x[kept], y[kept], cells[kept], units=units[kept], strata=np.zeros(99))
    assert part.n == 99
    assert part.rho == pytest.approx(whole.rho, abs=0.02)
    assert abs(part.hi - whole.hi) < 0.05


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_values_have_no_correlation(count: int) -> None:
    values = np.arange(count, dtype=float)
    for test in (within_correlation, between_correlation, pooled_correlation):
        assert math.isnan(test(values, values, np.zeros(count, int)).rho)


def test_a_constant_has_no_correlation_and_single_trials_do_not_count() -> None:
    groups = np.repeat([0, 1, 2], 4)
    assert math.isnan(within_correlation(np.ones(12), np.arange(12.0), groups).rho)
    assert math.isnan(pooled_correlation(np.ones(12), np.arange(12.0), groups).rho)
    lonely = within_correlation(np.arange(13.0), np.arange(13.0), np.append(groups, 3))
    assert (lonely.n, lonely.rho) == (12, pytest.approx(1))


def test_the_same_seed_gives_the_same_numbers() -> None:
    x, y = related(np.random.default_rng(2), 0.4, 1)
    assert within_correlation(x, y, GROUPS, seed=3) == within_correlation(x, y, GROUPS, seed=3)
    assert within_correlation(x, y, GROUPS, seed=3).lo != within_correlation(x, y, GROUPS, seed=4).lo
    assert pooled_correlation(x, y, GROUPS, seed=3) == pooled_correlation(x, y, GROUPS, seed=3)
