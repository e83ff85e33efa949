"""Sums of squares, omega squared and swings: hand values, statsmodels, scipy; coverage: test_simulated_studies."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.formula.api import ols

from ablation.analysis.anova import errors, mover_ratio, omega_squared, sums_of_squares, swing


def test_one_way_sums_of_squares_equal_the_f_test() -> None:
    values = np.random.default_rng(0).normal(size=(4, 6)) + np.arange(4)[:, None]
    method, residual = omega_squared(values)
    assert method.p == pytest.approx(stats.f_oneway(*values).pvalue)
    assert (method.df, residual.df) == (3, 20)


def test_three_factors_equal_statsmodels() -> None:
    values = np.random.default_rng(0).normal(size=(4, 2, 3, 3)) + np.arange(4)[:, None, None, None]
    index = pd.DataFrame([*itertools.product(range(4), range(2), range(3), range(3))], columns=["a", "b", "c", "seed"])
    table = sm.stats.anova_lm(ols("y ~ C(a) * C(b) * C(c)", index.assign(y=values.ravel())).fit(), typ=2)
    names = {(0,): "C(a)", (1,): "C(b)", (2,): "C(c)", (0, 1): "C(a):C(b)", (0, 2): "C(a):C(c)", (1, 2): "C(b):C(c)",
             (0, 1, 2): "C(a):C(b):C(c)", (): "Residual"}
    effects = {effect.factors: effect for effect in omega_squared(values)}
    for factors, name in names.items():
        assert effects[factors].ss == pytest.approx(table.loc[name, "sum_sq"]), name
        assert effects[factors].df == table.loc[name, "df"]
        if factors:
            assert effects[factors].p == pytest.approx(table.loc[name, "PR(>F)"])


def test_two_way_hand_example() -> None:
    # Cells (2 x 2) with two repeats: means 2, 4 / 6, 12; every repeat is one off its mean.
    values = np.array([[[1.0, 3], [3, 5]], [[5, 7], [11, 13]]])
    assert sums_of_squares(values) == {(0,): (1, 72.0), (1,): (1, 32.0), (0, 1): (1, 8.0), (): (4, 8.0)}
    effects = {effect.factors: effect for effect in omega_squared(values)}
    assert effects[(0,)].omega2 == pytest.approx((72 - 2) / (120 + 2))
    # The first factor moves the cells by 4 and 8, mean square 40; noise adds 2 MSE / R = 2 * 2 / 2.
    assert swing(values, 0).value == pytest.approx(math.sqrt(40 - 2))
    assert swing(values, 1).value == pytest.approx(math.sqrt((2**2 + 6**2) / 2 - 2))


def test_sums_of_squares_of_three_factors_add_up() -> None:
    values = np.random.default_rng(0).normal(size=(5, 2, 4, 3))
    table = sums_of_squares(values)
    assert sum(ss for _, ss in table.values()) == pytest.approx(((values - values.mean()) ** 2).sum())
    assert sum(df for df, _ in table.values()) == values.size - 1
    assert len(table) == 8


def test_noise_alone_swings_nothing() -> None:
    found = swing(np.random.default_rng(0).normal(size=(5, 2, 5, 5)), 0)
    assert found.value < 0.45  # cells of 5 seeds differ by 0.63 through noise
    assert found.lo == 0
    assert 0 <= found.value <= found.hi


def test_a_large_effect_has_an_interval_around_it() -> None:
    values = np.arange(5.0)[:, None, None] * 100 + np.random.default_rng(0).normal(size=(5, 2, 5))
    effect = omega_squared(values)[0]
    assert 0.999 < effect.lo <= effect.omega2 <= effect.hi <= 1
    found = swing(values, 0)
    truth = math.sqrt(np.mean([(100.0 * (i - j)) ** 2 for i, j in itertools.combinations(range(5), 2)]))
    assert found.value == pytest.approx(truth, abs=1)
    assert found.lo < found.value < found.hi < found.lo + 3


def test_mover_of_a_ratio_with_a_known_denominator_scales_the_interval() -> None:
    """Donner & Zou 2012: without error in the denominator the ends are those of the numerator over it."""
    assert mover_ratio((4.0, 3.0, 6.0), (2.0, 2.0, 2.0)) == pytest.approx((1.5, 3.0))
    low, high = mover_ratio((4.0, 3.0, 6.0), (2.0, 1.5, 3.0))
    assert low < 1.5
    assert high > 3.0
    assert mover_ratio((0.0, 0.0, 1.0), (2.0, 1.5, 3.0))[0] == 0


def test_shared_subsets_are_the_error_of_the_level_and_of_nothing_else() -> None:
    """Split-plot design: sums of squares by hand through statsmodels, the subset a factor nested in the level."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 2, 4, 5)) + 2 * rng.normal(size=(1, 1, 4, 5)) + np.arange(3)[:, None, None, None]
    index = pd.DataFrame([*itertools.product(range(3), range(2), range(4), range(5))], columns=["a", "b", "c", "seed"])
    frame = index.assign(y=values.ravel())
    table = sm.stats.anova_lm(ols("y ~ C(a) * C(b) * C(c) + C(c):C(seed)", frame).fit())
    (whole_df, whole), (rest_df, rest) = errors(values, sums_of_squares(values), 2)
    assert (whole_df, whole * whole_df) == (16, pytest.approx(table.loc["C(c):C(seed)", "sum_sq"]))
    assert (rest_df, rest * rest_df) == (4 * 4 * 5, pytest.approx(table.loc["Residual", "sum_sq"]))
    effects = {effect.factors: effect for effect in omega_squared(values, shared=2)}
    assert effects[(2,)].p == pytest.approx(stats.f.sf(effects[(2,)].ss / 3 / whole, 3, 16))
    assert effects[(0,)].p == pytest.approx(stats.f.sf(effects[(0,)].ss / 2 / rest, 2, 80))


def test_one_repeat_takes_the_highest_interaction_as_noise_and_has_no_interval() -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 1))
    effects = omega_squared(values)
    assert [effect.factors for effect in effects] == [(0,), (1,), ()]
    assert effects[-1].df == 6
    assert math.isnan(effects[0].lo)
    assert math.isnan(swing(values, 0).value)


def test_without_any_noise_nothing_is_divided_by_zero() -> None:
    effects = omega_squared(np.zeros((3, 2, 4)))
    assert all(math.isnan(effect.p) and math.isnan(effect.omega2) for effect in effects)
