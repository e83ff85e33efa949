"""Variance, drop, comparison and power over frames of trials with planted effects."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ablation.analysis.factors import compare, complete_blocks, drop, pair_power, variance
from ablation.analysis.tables import aggregate
from ablation.errors import NothingMatched
from tests.ablation.analysis.frames import trials_frame, with_metric, without

METRIC = "probe/auroc"
SKILL = {"simclr": 0.80, "barlow_twins": 0.80, "byol": 0.77, "dino": 0.76, "mae": 0.69, "supervised": 0.90}


def score(method: str, backbone: str, level: float) -> float:
    """Methods and backbones differ; mae falls with rarity."""
    return SKILL[method] - 0.03 * (backbone == "vit_tiny") - (0.2 * (0.5 - level) if method == "mae" else 0.0)


def test_the_planted_factors_are_found_in_units_of_the_score() -> None:
    table = variance(trials_frame(score, methods=["simclr", "byol", "dino"], seeds=4), METRIC).set_index("term")
    assert (table["n"] == 3 * 2 * 4 * 4).all()
    assert table.loc["backbone", "swing"] == pytest.approx(0.03, abs=0.004)
    assert table.loc["backbone", "swing_lo"] < 0.03 < table.loc["backbone", "swing_hi"]
    differences = [0.03, 0.04, 0.01]
    truth = math.sqrt(sum(d**2 for d in differences) / 3)
    assert table.loc["method", "swing_lo"] < truth < table.loc["method", "swing_hi"]
    assert table.loc["imbalance", "lo"] == 0
    assert table.loc["method", "lo"] < table.loc["method", "omega2"] < table.loc["method", "hi"]


def test_the_drop_is_from_the_level_nearest_to_balance() -> None:
    table = drop(trials_frame(score), METRIC).set_index(["method", "imbalance"])
    assert table.loc[("mae", 0.01), "value"] == pytest.approx(0.2 * 0.49, abs=0.01)
    assert table.loc[("mae", 0.01), "lo"] > 0
    assert table.loc[("simclr", 0.01), "lo"] < 0 < table.loc[("simclr", 0.01), "hi"]
    assert (table["n"] == 10).all()
    assert set(table["note"]) == {"against 0.5"}
    assert len(table) == 6 * 3


def test_a_cell_that_failed_is_a_row_without_a_number() -> None:
    trials = without(trials_frame(score, backbones=["resnet18"]), method="mae", imbalance=0.01)
    row = drop(trials, METRIC).set_index(["method", "imbalance"]).loc[("mae", 0.01)]
    assert (row["n"], math.isnan(row["value"])) == (0, True)


def test_pairs_have_intervals_of_the_paired_seeds() -> None:
    table = compare(trials_frame(score), METRIC).set_index(["a", "b"])
    row = table.loc[("simclr", "byol")]
    assert row["lo"] < 0.03 < row["hi"]
    assert row["lo"] > 0
    assert (row["n"], row["num_pairs"]) == (8, 40)
    assert row["prob_lo"] < row["prob_better"] < row["prob_hi"]
    assert row["critical_difference"] == pytest.approx(2.850 * math.sqrt(42 / 48), abs=0.01)  # q_.05 for k = 6
    same = table.loc[("simclr", "barlow_twins")]
    assert same["lo"] < 0 < same["hi"]


def test_comparison_knows_that_a_loss_is_better_low() -> None:
    table = compare(trials_frame(score, metric="train/loss"), "train/loss").set_index(["a", "b"])
    assert table.loc[("simclr", "mae"), "difference"] > 0
    assert table.loc[("simclr", "mae"), "prob_better"] == 0
    assert table.loc[("simclr", "mae"), "rank_a"] > table.loc[("simclr", "mae"), "rank_b"]


def test_power_says_what_is_settled_and_what_more_seeds_would_do() -> None:
    skill = {"simclr": 0.800, "byol": 0.806, "mae": 0.70}
    trials = trials_frame(lambda m, b, p: skill[m], methods=list(skill), noise=0.02, seeds=3, seed=2)
    table = pair_power(trials, METRIC).set_index(["a", "b"])
    clear, close = table.loc[("simclr", "mae")], table.loc[("simclr", "byol")]
    assert bool(clear["settled"])
    assert clear["more_seeds"] == 0
    assert not bool(close["settled"])
    assert close["smallest"] > abs(close["difference"])
    assert 1 <= close["more_seeds"] < 1000
    assert (close["seeds"], close["n"], close["blocks"]) == (3, 24, 8)
    assert close["lo"] < 0 < close["hi"]


def test_one_seed_can_show_nothing() -> None:
    table = pair_power(trials_frame(score, methods=["simclr", "byol"], seeds=1), METRIC)
    assert table["smallest"].isna().all()
    assert not table["settled"].any()
    assert table["more_seeds"].isna().all()


def test_unfinished_blocks_are_counted() -> None:
    trials = without(trials_frame(score), method="mae", imbalance=0.05, backbone="vit_tiny")
    assert "1 of 8 blocks left out (unfinished trials)" in compare(trials, METRIC)["note"].iloc[0]
    assert (pair_power(trials, METRIC)["blocks"] == 7).all()
    gone = compare(without(trials, method="dino"), METRIC)
    assert gone["note"].iloc[0] == "without any result: dino; 1 of 8 blocks left out (unfinished trials)"
    assert "dino" not in set(gone["a"]) | set(gone["b"])
    apart = without(without(trials, method="mae", backbone="resnet18"), method="simclr", backbone="vit_tiny")
    with pytest.raises(NothingMatched, match="no cell of backbone, imbalance has a finished trial of every method"):
        compare(apart, METRIC)


def test_no_method_is_judged_on_its_easy_cells_alone() -> None:
    trials = without(trials_frame(score), method="byol", imbalance=0.01)
    kept, note = complete_blocks(trials, METRIC)
    assert set(kept["imbalance"]) == {0.05, 0.15, 0.5}
    assert kept.groupby("method").size().nunique() == 1
    assert note == "2 of 8 blocks left out (unfinished trials)"


def test_a_sparse_cell_costs_its_level_and_not_all_seeds() -> None:
    trials = trials_frame(score, methods=["simclr", "byol", "mae"])
    for seed in range(1, 5):
        trials = without(trials, method="mae", backbone="vit_tiny", imbalance=0.01, seed=seed)
    table = variance(trials, METRIC)
    assert table["n"].iloc[0] >= 80
    assert table["note"].iloc[0].startswith("left out, too few finished trials in some cell: ")
    assert np.isfinite(table.loc[table["term"] != "residual", ["lo", "hi"]].to_numpy()).all()


def test_the_level_is_judged_against_the_spread_of_subsets() -> None:
    """All trials of one level and seed move together: ten trials say what one says."""
    trials = trials_frame(lambda m, b, p: 0.7, methods=["simclr", "byol", "dino", "mae"], noise=0.001, seed=3)
    subset = np.random.default_rng(1).normal(0, 0.02, (4, 5))
    place = [list(dict.fromkeys(trials["imbalance"])).index(level) for level in trials["imbalance"]]
    moved = with_metric(trials, METRIC, trials[f"metrics.{METRIC}"] + subset[place, trials["seed"]])
    table = variance(moved, METRIC).set_index("term")
    assert table.loc["imbalance", "p"] > 0.01
    assert table.loc["imbalance", "lo"] < 0.05
    mean = aggregate(moved, METRIC, by=["method"]).iloc[0]
    assert mean["hi"] - mean["lo"] > 0.008  # of 20 subsets; 40 trials as independent values would give 0.004
