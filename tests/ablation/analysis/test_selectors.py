"""Correlation and regret of label-free metrics over frames of trials with planted relations."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ablation.analysis.selectors import correlate, regret, selectors_of, with_clid
from ablation.analysis.tables import preference
from ablation.errors import NothingMatched
from tests.ablation.analysis.frames import trials_frame, with_metric

METRIC, RANKME = "probe/auroc", "label_free/rankme"
OFFSET = {"simclr": 0.80, "barlow_twins": 0.78, "byol": 0.75, "dino": 0.73, "mae": 0.60, "supervised": 0.9}


def flat(method: str, backbone: str, level: float) -> float:
    return OFFSET[method]


def noise_of(trials: pd.DataFrame) -> np.ndarray:
    """What a trial scores beyond its method."""
    centred: np.ndarray = (trials[f"metrics.{METRIC}"] - trials["method"].map(OFFSET)).to_numpy(float)
    return centred


def test_simpsons_paradox_is_named() -> None:
    """Better methods have a higher rank, better runs of a method a lower one."""
    trials = trials_frame(flat)
    rank = 100 * trials["method"].map(OFFSET).to_numpy(float) - 200 * noise_of(trials)
    table = correlate(with_metric(trials, RANKME, rank), RANKME, METRIC).set_index("level")
    assert table.loc["within", "rho"] < -0.9
    assert table.loc["within", "hi"] < 0
    assert table.loc["pooled", "rho"] > 0.5
    assert table.loc["pooled", "note"].startswith("Simpson's paradox: opposite in sign to the value within method")
    agreeing = correlate(with_metric(trials, RANKME, trials[f"metrics.{METRIC}"].to_numpy()), RANKME, METRIC)
    assert not agreeing["note"].str.contains("Simpson").any()


def test_a_metric_that_follows_the_level_alone_has_no_partial_correlation() -> None:
    trials = trials_frame(lambda m, b, p: OFFSET[m] + 0.1 * p)
    rank = trials["imbalance"].to_numpy() + 0.01 * np.random.default_rng(1).normal(size=len(trials))
    table = correlate(with_metric(trials, RANKME, rank), RANKME, METRIC, ["method", "backbone"]).set_index("level")
    assert table.loc["within", "rho"] > 0.6
    assert table.loc["within", "note"] == "the level moves both; p is given the level"
    assert abs(table.loc["partial", "rho"]) < 0.2
    assert table.loc["partial", "p"] > 0.05
    assert (table["n"] == [240, 240, 12, 240, 240]).all()


def test_groups_without_anything_to_control_have_no_partial_row() -> None:
    trials = trials_frame(flat, backbones=["resnet18"], levels=[0.5])
    table = correlate(with_metric(trials, RANKME, noise_of(trials)), RANKME, METRIC)
    assert table["level"].tolist() == ["within", "between", "pooled"]


def test_clid_is_standardised_over_the_finished_trials() -> None:
    trials = trials_frame(flat, methods=["simclr", "mae"])
    rng = np.random.default_rng(0)
    learnable, dimension = rng.normal(0.6, 0.1, len(trials)), rng.normal(12, 3, len(trials))
    trials = with_metric(trials, "label_free/cluster_learnability", learnable)
    found = with_clid(with_metric(trials, "label_free/two_nn", dimension))["metrics.label_free/clid"].to_numpy()
    expected = (learnable - learnable.mean()) / learnable.std() + (dimension - dimension.mean()) / dimension.std()
    assert found == pytest.approx(expected)
    assert "metrics.label_free/clid" not in with_clid(trials)


def test_every_metric_is_turned_so_that_higher_is_better() -> None:
    values = np.array([0.5, 1.0, 2.0])
    assert preference(values, RANKME).argmax() == 2
    assert preference(values, "label_free/uniformity").argmax() == 0
    assert preference(values, "label_free/alpha_req").argmax() == 1
    assert preference(values, "train/loss").argmax() == 0
    assert preference(values, "my/own").argmax() == 2


def test_regret_of_the_oracle_is_zero_and_of_the_opposite_the_whole_range() -> None:
    trials = trials_frame(flat, methods=["simclr", "mae"])
    score = trials[f"metrics.{METRIC}"].to_numpy()
    trials = with_metric(with_metric(trials, RANKME, score), "label_free/nesum", -score)
    table = regret(trials, [RANKME, "label_free/nesum"], METRIC).set_index("selector")
    assert table.loc[RANKME, ["regret", "lo", "hi"]].tolist() == [0, 0, 0]
    assert table.loc[RANKME, "picked_best"] == 1
    spread = trials.groupby(["method", "imbalance"])[f"metrics.{METRIC}"].agg(lambda v: v.max() - v.min()).mean()
    assert table.loc["label_free/nesum", "regret"] == pytest.approx(spread)
    assert table.loc[RANKME, "gain"] == pytest.approx(table.loc["random", "regret"])
    assert table.loc[RANKME, "gain_lo"] > 0 > table.loc["label_free/nesum", "gain_hi"]
    assert (table["n"] == 8).all()
    assert math.isnan(table.loc["random", "p"])


def test_the_holm_family_is_the_label_free_selectors() -> None:
    trials = trials_frame(flat, methods=["simclr", "mae"])
    rng = np.random.default_rng(0)
    names = [f"label_free/{name}" for name in ("rankme", "nesum", "stable_rank")]
    for name in (*names, "train/loss"):
        trials = with_metric(trials, name, rng.normal(size=len(trials)))
    assert selectors_of(trials) == [*names, "train/loss"]
    table = regret(trials, selectors_of(trials), METRIC).set_index("selector")
    smallest = table.loc[names, "p"].min()
    assert table.loc[names, "p_holm"].min() == pytest.approx(min(1.0, 3 * smallest))
    assert table.loc[["train/loss", "random"], "p_holm"].isna().all()


def validation(trials: pd.DataFrame, num: int = 400) -> dict[str, pd.DataFrame]:
    """Probe scores on the same validation images: a better trial separates them better."""
    truth = np.tile([0, 1], num // 2)
    tables = {}
    for i, (key, quality) in enumerate(zip(trials["key"], noise_of(trials), strict=True)):
        scores = np.random.default_rng(i).normal(size=num) + (1 + 60 * quality) * truth
        tables[key] = pd.DataFrame({"image_id": [f"{j}.png" for j in range(num)], "split": "validation",
                                    "label": truth, "score_probe": scores})
    return tables


def test_more_labels_choose_better_and_beat_a_blind_choice() -> None:
    trials = trials_frame(flat, methods=["simclr", "mae"])
    trials = with_metric(trials, RANKME, np.random.default_rng(0).normal(size=len(trials)))
    table = regret(trials, [RANKME], METRIC, scores=validation(trials).__getitem__).set_index("selector")
    costs = table.loc[["random", "labelled_20", "labelled_50", "labelled_100"], "regret"].tolist()
    assert costs == sorted(costs, reverse=True)
    assert table.loc["labelled_100", "gain_lo"] > 0


def test_contexts_whose_trials_saw_other_images_are_left_out_and_counted() -> None:
    trials = with_metric(trials_frame(flat, methods=["simclr"]), RANKME, np.arange(40.0))
    few = validation(trials, num=60)  # 30 defects
    found = regret(trials, [RANKME], METRIC, scores=few.__getitem__).set_index("selector")
    assert found["n"].to_dict() == {RANKME: 4, "random": 4, "labelled_20": 4}
    few[trials.loc[3, "key"]].loc[0, "image_id"] = "other.png"
    del few[trials.loc[39, "key"]]
    found = regret(trials, [RANKME], METRIC, scores=few.__getitem__).set_index("selector")
    assert found.loc["labelled_20", "n"] == 2
    assert found.loc["labelled_20", "note"] == (
        "only 2 contexts; 2 contexts without scores of every trial left out")
    few.clear()
    assert "labelled_20" not in set(regret(trials, [RANKME], METRIC, scores=few.__getitem__)["selector"])


def test_a_selector_that_some_trials_lack_does_not_take_them_from_the_others() -> None:
    """pseudo_condition needs more images than features: ResNet-18 may have none where ViT-Tiny has."""
    trials = trials_frame(flat, methods=["simclr", "mae"])
    score = trials[f"metrics.{METRIC}"].to_numpy()
    lacking = np.where(trials["backbone"] == "resnet18", np.nan, -score)
    trials = with_metric(with_metric(trials, RANKME, score), "label_free/pseudo_condition", lacking)
    table = regret(trials, [RANKME, "label_free/pseudo_condition"], METRIC).set_index("selector")
    assert (table.loc[[RANKME, "random"], "n"] == 8).all()
    assert table.loc["label_free/pseudo_condition", "n"] == 8
    assert table.loc["label_free/pseudo_condition", "note"] == "no value in 40 of 80 trials, which it cannot choose"
    seeds = regret(trials, [RANKME, "label_free/pseudo_condition"], METRIC, ("method", "backbone", "imbalance"))
    assert seeds.set_index("selector")["n"].to_dict() == {RANKME: 16, "label_free/pseudo_condition": 8, "random": 16}
    assert seeds.set_index("selector").loc["label_free/pseudo_condition", "regret"] == 0


def test_without_two_trials_to_choose_from_there_is_no_regret() -> None:
    trials = with_metric(trials_frame(flat, backbones=["resnet18"], seeds=1), RANKME, np.arange(24.0))
    with pytest.raises(NothingMatched, match="two finished trials to choose from"):
        regret(trials, [RANKME], METRIC)
