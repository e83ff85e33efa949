"""Thresholds from validation and what they cost: the smallest cases by hand, intervals by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ablation.analysis import operating_points as points

SCORES = np.arange(1.0, 41)


def test_clopper_pearson_equals_scipy_and_knows_the_ends() -> None:
    for hits, n in [(0, 7), (3, 7), (7, 7), (1, 250)]:
        exact = stats.binomtest(hits, n).proportion_ci(method="exact")
        assert points.clopper_pearson(hits, n, 0.95) == pytest.approx((exact.low, exact.high), abs=1e-12)
    assert np.isnan(points.clopper_pearson(0, 0, 0.95)).all()


@pytest.mark.parametrize(("budget", "alarms"), [(0.05, 2), (0.074, 2), (0.075, 3), (0.29, 11)])
def test_budget_threshold_is_the_smallest_that_keeps_the_budget(budget: float, alarms: int) -> None:
    """Of 40 normals floor(40 budget) may be flagged; any lower threshold flags one more."""
    threshold = points.budget_threshold(SCORES, budget)
    assert (threshold <= SCORES).sum() == alarms
    assert (np.nextafter(threshold, -math.inf) <= SCORES).sum() == alarms + 1


def test_ties_at_the_threshold_are_not_flagged() -> None:
    normals = np.repeat([1.0, 2.0], [35, 5])
    assert (normals >= points.budget_threshold(normals, 0.05)).sum() == 0


def test_a_share_that_floats_cannot_hold_counts_in_full() -> None:
    """0.29 * 100 is 28.999…: 29 false alarms fit."""
    normals = np.arange(100.0)
    assert (normals >= points.budget_threshold(normals, 0.29)).sum() == 29


def test_bootstrap_by_beta_ranks_has_the_law_of_resampling() -> None:
    rng = np.random.default_rng(0)
    fast = points.bootstrap_thresholds(SCORES, 0.05, 20_000, seed=1)
    slow = np.sort(SCORES[rng.integers(0, 40, (20_000, 40))], axis=1)[:, -3]
    for value in (36, 37, 38, 39):
        assert np.mean(fast > value) == pytest.approx(np.mean(slow >= value), abs=0.015)
    assert set(np.floor(fast)) <= set(SCORES)


def test_budget_table_holds_threshold_rates_and_both_kinds_of_interval() -> None:
    rng = np.random.default_rng(2)
    validation, normals, defects = rng.standard_normal(200), rng.standard_normal(300), rng.standard_normal(250) + 2
    row = points.budget_table(validation, normals, defects).iloc[0]
    assert row["validation_fpr"] == 0.05
    assert row["tpr"] == np.mean(defects >= row["threshold"])
    assert row["fpr"] == pytest.approx(np.mean(normals >= row["threshold"]))
    exact = stats.binomtest(int((defects >= row["threshold"]).sum()), 250).proportion_ci(method="exact")
    assert (row["tpr_lo"], row["tpr_hi"]) == pytest.approx((exact.low, exact.high))
    for name in ("threshold", "fpr", "tpr"):
        assert row[f"{name}_spread_lo"] < row[name] < row[f"{name}_spread_hi"]
    assert row[["n_validation", "n_normals", "n_defects"]].tolist() == [200, 300, 250]
    assert row["note"] == ""
    again = points.budget_table(validation, normals, defects).iloc[0]
    assert row.equals(again)


def test_the_spread_of_the_threshold_covers_the_true_quantile() -> None:
    """Over 1,000 sets of 200 normals; a percentile bootstrap of a tail quantile stays a little below 95 %."""
    rng, truth = np.random.default_rng(3), stats.norm.ppf(0.95)
    sets = rng.standard_normal((1000, 200))
    ends = np.array([np.quantile(points.bootstrap_thresholds(row, 0.05, 400, seed=0), [0.025, 0.975]) for row in sets])
    assert 0.90 <= np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])) <= 0.98


def test_too_few_normals_for_the_budget_are_named_instead_of_a_number() -> None:
    row = points.budget_table(SCORES[:19], SCORES, SCORES).iloc[0]
    assert row["note"] == "19 validation normals are too few for a budget of 5 %: 20 or more are needed"
    assert row.drop(["budget", "n_validation", "n_normals", "n_defects", "note"]).isna().all()
    enough = points.budget_table(SCORES[:20], SCORES, SCORES).iloc[0]
    assert (enough["note"], enough["validation_fpr"]) == ("", 0.05)


@pytest.mark.parametrize("budget", [0, 1, -0.1])
def test_a_budget_outside_0_to_1_is_refused(budget: float) -> None:
    with pytest.raises(ValueError, match="budget of false alarms"):
        points.budget_threshold(SCORES, budget)


def test_rates_without_test_images_are_unknown() -> None:
    row = points.budget_table(SCORES, np.empty(0), SCORES).iloc[0]
    assert math.isnan(row["fpr"])
    assert math.isnan(row["fpr_hi"])
    assert row["tpr"] == 0.05


# --- cost ------------------------------------------------------------------------------------------------------------


def test_cost_threshold_by_hand_and_by_trying_all() -> None:
    """Two Gaussians: the best cut is where the likelihood ratio is (1 - π) c_FP / (π c_FN)."""
    rng = np.random.default_rng(4)
    labels = np.tile([0, 1], 40_000)
    scores = rng.standard_normal(80_000) + 2 * labels
    expected = 1 + math.log(0.98 / (0.02 * 10)) / 2
    assert points.cost_threshold(labels, scores, 0.02, 10, 1) == pytest.approx(expected, abs=0.15)
    labels, scores = labels[:60], scores[:60]
    found = points.cost_threshold(labels, scores, 0.02, 10, 1)

    def cost(threshold: float) -> float:
        flagged = scores >= threshold
        return 0.02 * 10 * (~flagged[labels == 1]).mean() + 0.98 * flagged[labels == 0].mean()

    assert cost(found) == pytest.approx(min(map(cost, [*scores, math.inf])))


def test_where_misses_cost_next_to_nothing_nothing_is_flagged() -> None:
    assert points.cost_threshold(np.array([0, 1, 0]), np.array([2.0, 1, 0]), 0.02, 0.001, 1) == math.inf


def test_cost_per_thousand_images_by_hand() -> None:
    """π = 2 %, 10 : 1. Flagging all: 980 false alarms; none: 20 misses cost 200; half of both: 100 + 490."""
    validation = np.repeat([0, 1], 40), np.concatenate([SCORES, SCORES])
    test = np.repeat([0, 1], 40), np.concatenate([SCORES, SCORES])
    frame = points.cost_table(validation, test, budget=0.5).set_index("rule")
    assert frame.index.tolist() == ["f1", "f2", "budget", "cost", "flag all", "flag none"]
    assert frame.loc["flag all", ["cost", "lo", "hi"]].tolist() == [980, 980, 980]
    assert frame.loc["flag none", ["cost", "lo", "hi"]].tolist() == [200, 200, 200]
    assert frame.loc["budget", ["missed", "false_alarms", "cost"]].tolist() == pytest.approx([10, 490, 590])
    assert frame.loc["cost", "cost"] == 200  # scores say nothing: flag nothing
    assert frame.loc["budget", ["n_validation", "n_normals", "n_defects"]].tolist() == [40, 40, 40]


def test_interval_of_cost_covers_the_truth() -> None:
    rng, covered, runs = np.random.default_rng(5), 0, 400
    validation = np.tile([0, 1], 500), np.tile([0.0, 1.0], 500) + rng.normal(0, 0.5, 1000)
    threshold = points.cost_table(validation, validation).set_index("rule").loc["cost", "threshold"]
    truth = 200 * stats.norm.cdf((threshold - 1) / 0.5) + 980 * stats.norm.sf(threshold / 0.5)
    for _ in range(runs):
        test = np.tile([0, 1], 80), np.tile([0.0, 1.0], 80) + rng.normal(0, 0.5, 160)
        row = points.cost_table(validation, test).set_index("rule").loc["cost"]
        covered += row["lo"] <= truth <= row["hi"]
    assert covered / runs >= 0.94  # Clopper-Pearson: on the wide side


def test_one_class_only_gives_unknown_costs_not_errors() -> None:
    one = np.zeros(40, int), SCORES
    both = np.repeat([0, 1], 20), SCORES
    frame = points.cost_table(one, both).set_index("rule")
    assert frame.loc[["f1", "f2", "cost"], "cost"].isna().all()
    assert math.isfinite(frame.loc["budget", "cost"])
    assert points.cost_table(both, one)["cost"].iloc[:4].isna().all()
    with pytest.raises(ValueError, match="positive costs"):
        points.cost_table(both, both, cost_miss=0)
