"""Searches with planted effects: what is there is found, what is not is not said."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ablation.analysis import search_findings, search_tables
from tests.ablation.analysis.frames import without
from tests.ablation.analysis.search_frames import AUROC, RANKME, arms_frame, candidates_frame

SKILL = {"simclr": 0.80, "byol": 0.78, "mae": 0.70}
GAIN = {"simclr": 0.01, "byol": 0.06, "mae": 0.02}
KEPT = {"recipe": 0.0, AUROC: 1.0, RANKME: 0.4}


def tuned(method: str, arm: str) -> float:
    """Tuning lifts BYOL above SimCLR; RankMe finds 40 % of that."""
    return SKILL[method] + KEPT[arm] * GAIN[method]


def told(arms: pd.DataFrame, objective: str = AUROC) -> str:
    return search_findings.ranking_sentence(search_tables.gains(arms, AUROC, objective),
                                            search_tables.exchanges(arms, AUROC, objective))


def test_accounts_add_up_and_tell_equal_from_unequal() -> None:
    frame = candidates_frame(metrics=(AUROC, RANKME))
    table = search_tables.accounting(frame)
    assert len(table) == 4
    first = table.iloc[0]
    mine = frame[frame["method"].eq("simclr") & frame["metric"].eq(AUROC)]
    assert (first["candidates"], first["complete"] + first["pruned"] + first["failed"]) == (20, 20)
    assert (first["epochs"], first["images"]) == (mine["epochs"].sum(), mine["images"].sum())
    assert first["value"] == mine.loc[mine["state"].eq("COMPLETE"), "value"].max()
    assert search_findings.budget_sentence(table).startswith("The budget is equal: each of 4 searches has had 20 cand")
    one_more = table.assign(epochs=table["epochs"] + [0, 1, 0, 0], images=table["images"] + [0, 2000, 0, 0])
    assert "The budget is equal: each of 4 searches has had 20 candidates, 644 to 645 epochs" in (
        search_findings.budget_sentence(one_more))
    more = table.assign(epochs=table["epochs"] + [0, 2, 0, 0], images=table["images"] * [1, 1.1, 1, 1])
    assert "beyond that they differ: 644 to 646 epochs" in search_findings.budget_sentence(more)
    unequal = more.assign(candidates=[20, 19, 20, 20], running=[1, 0, 0, 0])
    assert "**not** equal" in search_findings.budget_sentence(unequal)
    assert "1 of them are not finished" in search_findings.budget_sentence(unequal)


def test_progress_follows_the_best_complete_candidate_in_the_direction_of_the_objective() -> None:
    frame = pd.DataFrame({"method": "m", "backbone": "b", "imbalance": 0.05, "number": [2, 0, 1, 3], "images": 10.0,
                          "state": ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"], "value": [0.8, 0.6, 0.9, 1.1]})
    assert search_tables.progress(frame.assign(metric=AUROC))["so_far"].tolist() == [0.6, 0.6, 0.8, 1.1]
    near_one = search_tables.progress(frame.assign(metric="label_free/alpha_req"))
    assert near_one["so_far"].tolist() == [0.6, 0.6, 0.8, 1.1]
    low = search_tables.progress(frame.assign(metric="train/loss"))
    assert low["so_far"].tolist() == [0.6, 0.6, 0.6, 0.6]
    assert low["spent"].tolist() == [10, 20, 30, 40]
    late = search_tables.progress(frame.assign(metric=AUROC, state=["COMPLETE", "FAIL", "PRUNED", "COMPLETE"]))
    assert late["so_far"].isna().tolist() == [True, True, False, False]
    assert search_tables.places(frame.assign(metric=AUROC))["place"].tolist() == [0.5, 0.0, 1.0]


def test_a_planted_exchange_of_two_methods_is_reported() -> None:
    arms = arms_frame(tuned)
    found = search_tables.gains(arms, AUROC, AUROC).set_index("method")
    assert found["rank_recipe"].to_dict() == {"simclr": 1, "byol": 2, "mae": 3}
    assert found["rank_tuned"].to_dict() == {"simclr": 2, "byol": 1, "mae": 3}
    for method, row in found.iterrows():
        assert row["gain"] == pytest.approx(GAIN[str(method)], abs=0.004)
        assert 0 < row["lo"] < row["gain"] < row["hi"]
        assert (row["n"], row["planned"], row["blocks"]) == (16, 16, 4)
    pairs = search_tables.exchanges(arms, AUROC, AUROC).set_index(["a", "b"])
    assert pairs["shown"].to_dict() == {("simclr", "byol"): True, ("simclr", "mae"): False, ("byol", "mae"): False}
    assert pairs["kept"].sum() == 2
    assert "**tuning changes the ranking**. SimCLR leads BYOL by 0.019 with" in told(arms)
    assert "τ between the two rankings is +0.33; 2 of 3 orders hold beyond doubt" in told(arms)
    assert "no pair of methods changes places" in told(arms_frame(lambda m, arm: SKILL[m] + 0.03 * (arm != "recipe")))


def test_a_gain_is_told_better_than_its_ends_where_arms_share_their_subsets() -> None:
    """Between subsets the score moves ten times as much as tuning does."""
    found = search_tables.gains(arms_frame(tuned, subset_noise=0.1), AUROC, AUROC).set_index("method").loc["simclr"]
    assert found["recipe_hi"] > found["tuned_lo"]
    assert found["lo"] > 0


def test_noise_and_few_seeds_are_no_change() -> None:
    equal = arms_frame(lambda method, arm: 0.7, noise=0.02)
    assert not search_tables.exchanges(equal, AUROC, AUROC)["shown"].any()
    assert "is not shown" in told(equal) or "no pair of methods" in told(equal)
    one = arms_frame(tuned, seeds=1)
    assert search_tables.gains(one, AUROC, AUROC)["lo"].isna().all()
    assert "too few seeds for intervals" in told(one)
    assert "beyond doubt" not in told(one)
    assert "no ranking to compare" in told(arms_frame(tuned, methods=["byol"]))


def test_only_pairs_and_cells_that_all_methods_have_are_compared() -> None:
    """A lost tuned trial takes its recipe along; a cell that one method lost altogether is no method's."""
    arms = arms_frame(
        lambda m, arm: 0.9 if m == "supervised" else tuned(m, arm), methods=("simclr", "byol", "supervised"))
    lost = without(arms, arm=AUROC, method="byol", backbone="vit_tiny", imbalance=0.5)
    lost = without(lost, arm=AUROC, method="simclr", backbone="resnet18", imbalance=0.05, seed=101)
    found = search_tables.gains(lost, AUROC, AUROC).set_index("method")
    assert found["n"].to_dict() == {"simclr": 11, "byol": 12, "supervised": 12}
    assert found["planned"].tolist() == [16, 16, 16]
    assert math.isnan(found.loc["supervised", "rank_tuned"])
    assert found["alike"].tolist() == [0, 0, 0]
    assert search_tables.exchanges(lost, AUROC, AUROC)["n"].tolist() == [11]
    assert search_tables.gains(without(arms, arm=AUROC), AUROC, AUROC).empty
    assert search_tables.gains(arms, "probe/ap", AUROC).empty


def test_the_planted_cost_of_tuning_without_labels_is_found() -> None:
    arms = arms_frame(tuned, arms=("recipe", AUROC, RANKME))
    table = search_tables.tuning(arms, AUROC, [AUROC, RANKME]).set_index("objective")
    gain = float(np.mean(list(GAIN.values())))
    assert table.loc[AUROC, "gain_lo"] < gain < table.loc[AUROC, "gain_hi"]
    free = table.loc[RANKME]
    assert free["lo"] < 0.6 * gain < free["hi"]
    assert free["kept_lo"] < 0.4 < free["kept_hi"]
    assert free["kept_hi"] - free["kept_lo"] < 0.3
    sentence = search_findings.tuning_sentence(table.reset_index(), AUROC)
    assert "Tuning by `label_free/rankme` instead costs +0.01" in sentence
    assert "it keeps" in sentence
    nothing = search_tables.tuning(arms_frame(lambda m, arm: SKILL[m], arms=("recipe", AUROC, RANKME)), AUROC,
                                   [AUROC, RANKME])
    assert nothing["kept"].isna().all()
    sentence = search_findings.tuning_sentence(nothing, AUROC)
    assert "there is no share to keep" in sentence
    assert "neither a gain nor a loss is shown" in sentence
    alone = search_tables.tuning(arms, AUROC, [RANKME])
    assert "No search was driven by labels" in search_findings.tuning_sentence(alone, AUROC)


@pytest.mark.parametrize(("objective", "sign"), [(RANKME, 1), ("label_free/alpha_req", -1)])
def test_agreement_of_objectives_over_the_candidates_they_share(objective: str, sign: int) -> None:
    """Both rise with the score; alpha_req is best near 1, so that high values are bad ones."""
    frame = candidates_frame(metrics=(AUROC, objective), noise=0.001)
    found = search_tables.shared_candidates(frame).iloc[0]
    assert found["n"] == int((frame["state"].eq("COMPLETE") & frame["metric"].eq(AUROC)).sum())
    assert sign * found["rho"] > 0.7
    apart = frame.assign(keys=frame["keys"] + frame["metric"])
    assert search_tables.shared_candidates(apart)["n"].tolist() == [0]


def test_the_recipe_has_the_settings_of_its_trial_or_of_its_method() -> None:
    frame = candidates_frame(methods=["mae"], size=3)
    settings = [name for name in frame if str(name).startswith("set.")]
    frame.loc[0, settings] = math.nan
    trials = pd.DataFrame({"key": frame["keys"].str.split(",").str[0], "params.train.lr": 0.007,
                           "params.train.batch_size": [math.nan, 64, 64]})
    found = search_tables.with_recipe(frame, trials).loc[0, settings]
    assert found["set.train.lr"] == 0.007
    assert found["set.train.weight_decay"] == 0.04  # recipe of MAE on a ResNet
    assert pd.isna(found["set.train.options.mask_ratio"])  # decided by the backbone
    pd.testing.assert_frame_equal(search_tables.with_recipe(frame, trials).loc[1:], frame.loc[1:])


def test_where_the_recipe_wins_its_search_both_arms_are_one_trial() -> None:
    """There the gain is 0 without doubt; that it is one trial is said."""
    arms = arms_frame(tuned, methods=("simclr", "byol"))
    kept = arms[arms["arm"].eq("recipe")].assign(arm=AUROC)
    both = pd.concat([arms[~(arms["arm"].eq(AUROC) & arms["method"].eq("byol"))], kept[kept["method"].eq("byol")]])
    found = search_tables.gains(both, AUROC, AUROC).set_index("method")
    assert found["alike"].to_dict() == {"simclr": 0, "byol": 16}
    assert found.loc["byol", ["gain", "lo", "hi"]].tolist() == [0, 0, 0]
