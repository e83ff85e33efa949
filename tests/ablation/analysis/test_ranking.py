"""Rank tests and shares of wins: hand values, scikit-posthocs, scipy, published critical values."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from scipy import stats

from ablation.analysis.ranking import (
    cliques,
    critical_difference,
    friedman,
    mean_ranks,
    nemenyi,
    performance_profile,
    probability_of_improvement,
    wilcoxon,
)

BLOCKS = np.random.default_rng(0).normal(size=(10, 5)) + np.arange(5) * 0.4


def test_friedman_is_scipys_in_the_form_of_iman_and_davenport() -> None:
    chi = stats.friedmanchisquare(*BLOCKS.T).statistic
    f, p = friedman(BLOCKS)
    assert f == pytest.approx(9 * chi / (10 * 4 - chi))
    assert p == pytest.approx(stats.f.sf(f, 4, 36))
    assert math.isnan(friedman(BLOCKS[:, :2])[0])
    assert math.isnan(friedman(np.ones((4, 3)))[1])  # all tied
    agreed = friedman(np.array([[1.0, 2, 3]] * 4))
    assert agreed == (math.inf, 1 / 6**3)  # three more blocks take the order of the first


def test_nemenyi_equals_scikit_posthocs() -> None:
    expected = scikit_posthocs.posthoc_nemenyi_friedman(pd.DataFrame(BLOCKS)).to_numpy()
    ranks = mean_ranks(BLOCKS)
    found = [[nemenyi(ranks[i] - ranks[j], 5, 10) for j in range(5)] for i in range(5)]
    assert np.array(found)[~np.eye(5, dtype=bool)] == pytest.approx(expected[~np.eye(5, dtype=bool)], abs=1e-3)


@pytest.mark.parametrize(("blocks", "expected"), [(10, 1.93), (20, 1.36), (40, 0.96)])
def test_critical_differences_of_five_methods(blocks: int, expected: float) -> None:
    """q_.05 = 2.728 for k = 5 (Demšar, JMLR 2006, table 5)."""
    assert critical_difference(5, blocks) == pytest.approx(2.728 * math.sqrt(30 / (6 * blocks)), abs=2e-3)
    assert critical_difference(5, blocks) == pytest.approx(expected, abs=0.006)


def test_ranks_count_from_the_best_and_share_ties() -> None:
    assert mean_ranks(np.array([[3.0, 1, 2], [2, 2, 0]])) == pytest.approx([1.25, 2.25, 2.5])


def test_cliques_are_maximal_runs() -> None:
    assert cliques(np.array([1.0, 1.5, 2.2, 4.0, 4.4]), 1.0) == [(0, 1), (1, 2), (3, 4)]
    assert cliques(np.array([4.0, 1.0]), 1.0) == []
    assert cliques(np.array([1.0, 2.0, 3.0]), 9.0) == [(0, 2)]


def test_wilcoxon_is_exact_for_few_blocks() -> None:
    assert wilcoxon(np.arange(1.0, 7)) == pytest.approx(2 / 2**6)
    assert math.isnan(wilcoxon(np.zeros(5)))


def test_probability_of_improvement_counts_ties_half_and_averages_cells() -> None:
    one = probability_of_improvement([np.array([1.0, 2])], [np.array([1.0, 0])])
    assert one[0] == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    two = probability_of_improvement([np.array([1.0, 2]), np.zeros(2)], [np.array([1.0, 0]), np.ones(2)])
    assert two[0] == pytest.approx((0.875 + 0) / 2)
    assert two[1] <= two[0] <= two[2]
    assert math.isnan(probability_of_improvement([np.ones(1)], [np.zeros(1)])[1])


def test_probability_of_improvement_is_the_mann_whitney_statistic() -> None:
    a, b = np.random.default_rng(0).normal(1, 1, 8), np.random.default_rng(1).normal(0, 1, 6)
    expected = stats.mannwhitneyu(a, b).statistic / 48
    assert probability_of_improvement([a], [b])[0] == pytest.approx(expected)


def test_a_profile_is_the_share_above_each_threshold() -> None:
    cells = [np.array([0.1, 0.9]), np.array([0.5, 0.6, 0.7, 0.8])]
    assert performance_profile(cells, np.array([0.0, 0.55, 1.0])) == pytest.approx([1, (0.5 + 0.75) / 2, 0])
