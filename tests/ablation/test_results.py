"""Results come from the store alone: every planned trial has its row, every number its n, every wrong name a hint."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablation.errors import NothingMatched
from ablation.results import StudyResults, load_study
from ablation.store import StudyStore, TrialState, TrialStatus
from tests.ablation.synthetic_study import write_study

FAILED = TrialStatus(state=TrialState.FAILED, reason="diverged", message="loss is not finite", flags=("collapsed",))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    """Six methods, two backbones, three levels, three seeds; all of dino at 1 % on vit_tiny failed."""
    store = tmp_path_factory.mktemp("store")
    write_study(store / "full", states={"dino-vit_tiny-p0.01-": FAILED}, epochs=4, num_test=10)
    return load_study("full", store=store)


@pytest.fixture(scope="module")
def frame(results: StudyResults) -> pd.DataFrame:
    return results.trials_dataframe()


def test_there_is_one_row_per_planned_trial_failed_ones_included(frame: pd.DataFrame) -> None:
    assert len(frame) == 6 * 2 * 3 * 3
    assert list(frame.columns[:10]) == [
        "key",
        "state",
        "method",
        "backbone",
        "imbalance",
        "seed",
        "reason",
        "flags",
        "num_defects",
        "num_normals",
    ]
    failed = frame[frame["state"] == "FAILED"]
    assert len(failed) == 3
    assert set(failed["reason"]) == {"diverged"}
    assert set(failed["flags"]) == {"collapsed"}
    assert failed["metrics.probe/auroc"].isna().all()
    assert (failed["params.train.epochs"] == 4).all()


def test_columns_are_typed(frame: pd.DataFrame) -> None:
    assert frame["imbalance"].dtype == float
    assert frame["seed"].dtype == "int64"
    assert frame["num_defects"].dtype == "Int64"
    assert frame["metrics.probe/auroc"].dtype == float
    assert frame["provenance.git_sha"].dropna().unique().tolist() == ["abc1234"]
    assert frame.loc[0, "num_defects"] == 20


def test_natural_stays_a_word_among_floats(tmp_path: Path) -> None:
    write_study(tmp_path / "study", imbalance=(0.05, "natural"), methods=["simclr"], seeds=[0], epochs=1, num_test=4)
    levels = load_study("study", tmp_path).trials_dataframe()["imbalance"]
    assert levels.tolist() == [0.05, "natural"] * 2
    assert isinstance(levels[0], float)


def test_a_trial_without_any_file_is_a_pending_row(tmp_path: Path) -> None:
    store = StudyStore(tmp_path / "study")
    store.write_plan({"trials": [{"key": "k", "method": "mae", "backbone": "resnet18", "imbalance": 0.1, "seed": 0}]})
    row = load_study("study", tmp_path).trials_dataframe().iloc[0]
    assert (row["state"], row["method"], row["imbalance"]) == ("PENDING", "mae", 0.1)


def test_an_empty_study_has_an_empty_frame(tmp_path: Path) -> None:
    StudyStore(tmp_path / "study").write_study("name: study\n")
    results = load_study("study", tmp_path)
    assert len(results.trials_dataframe()) == 0
    assert repr(results) == "StudyResults('study': no trials)"
    with pytest.raises(NothingMatched, match="no trial has 'probe/auroc'"):
        results.aggregate("probe/auroc")


def test_an_unknown_study_suggests_the_nearest(results: StudyResults) -> None:
    with pytest.raises(NothingMatched, match=r"no study 'ful' in .* \(did you mean 'full'\?\); it has full") as caught:
        load_study("ful", store=results.study_dir.parent)
    assert caught.value.exit_code == 4
    with pytest.raises(NothingMatched, match="it has none yet"):
        load_study("x", store=results.study_dir / "nowhere")


@pytest.mark.parametrize(
    "call",
    [
        lambda r: r.best("probe/aurok"),
        lambda r: r.aggregate("probe/aurok"),
        lambda r: r.correlate("probe/aurok", "probe/ap"),
        lambda r: r.variance("probe/aurok"),
        lambda r: r.compare("probe/aurok"),
        lambda r: r.regret(["probe/aurok"], "probe/ap"),
    ],
)
def test_an_unknown_metric_suggests_the_nearest(results: StudyResults, call: object) -> None:
    with pytest.raises(NothingMatched, match=re.escape("no trial has 'probe/aurok' (did you mean 'probe/auroc'?)")):
        call(results)  # type: ignore[operator]


def test_an_unknown_group_and_an_unknown_trial_are_one_line(results: StudyResults) -> None:
    with pytest.raises(NothingMatched, match=r"no trial has 'mehtod' \(did you mean 'method'\?\)"):
        results.aggregate("probe/auroc", by="mehtod")
    with pytest.raises(NothingMatched, match=r"no trial 'simclr-resnet18-p0\.01-s0-xxxxxxxx' in study 'full'"):
        results.history("simclr-resnet18-p0.01-s0-xxxxxxxx")


def test_history_is_long_and_can_be_narrowed(results: StudyResults, frame: pd.DataFrame) -> None:
    history = results.history()
    assert list(history.columns) == ["key", "epoch", "step", "metric", "value"]
    assert set(history["metric"]) == {"train/loss", "train/lr"}
    one = results.history([frame.loc[0, "key"]])
    assert len(one) == 4 * 2
    assert set(one["key"]) == {frame.loc[0, "key"]}


def test_best_knows_which_direction_is_better(results: StudyResults, frame: pd.DataFrame) -> None:
    best = results.best("probe/auroc", by=["imbalance"], k=2)
    assert best["imbalance"].tolist() == [0.01, 0.01, 0.05, 0.05, 0.5, 0.5]
    here = frame[frame["imbalance"] == 0.05]["metrics.probe/auroc"]
    assert best.loc[2:3, "metrics.probe/auroc"].tolist() == here.nlargest(2).tolist()
    assert results.best("train/loss").loc[0, "metrics.train/loss"] == frame["metrics.train/loss"].min()


def test_aggregate_counts_what_was_measured_and_what_was_planned(results: StudyResults, frame: pd.DataFrame) -> None:
    table = results.aggregate("probe/auroc", by=["method", "backbone", "imbalance"])
    assert len(table) == 36
    failed = table[(table["method"] == "dino") & (table["backbone"] == "vit_tiny") & (table["imbalance"] == 0.01)].iloc[
        0
    ]
    assert (failed["n"], failed["planned"]) == (0, 3)
    assert math.isnan(failed["value"])
    first = table.iloc[0]
    values = frame[:9].query("imbalance == 0.01")["metrics.probe/auroc"]
    assert first["value"] == pytest.approx(values.mean())
    assert first["lo"] < first["value"] < first["hi"]
    by_method = results.aggregate("probe/auroc", by="method", stat="iqm", n_boot=200)
    assert by_method["n"].tolist() == [18, 18, 18, 15, 18, 18]
    assert results.aggregate("probe/auroc", by=[])["n"].tolist() == [105]


def test_one_seed_has_a_value_but_no_interval(tmp_path: Path) -> None:
    write_study(tmp_path / "study", methods=["simclr"], seeds=[0], epochs=1, num_test=4)
    table = load_study("study", tmp_path).aggregate("probe/auroc")
    assert table["n"].tolist() == [1] * 6
    assert table["value"].notna().all()
    assert table[["lo", "hi"]].isna().all(axis=None)


def test_correlate_tells_three_levels_apart(results: StudyResults) -> None:
    table = results.correlate("label_free/rankme", "probe/auroc", n_boot=100).set_index("level")
    assert table.index.tolist() == ["within", "partial", "between", "pooled", "pooled_partial"]
    assert table["n"].tolist() == [105, 105, 6, 105, 105]
    assert table.loc["within", "p"] <= 1
    assert math.isnan(table.loc["pooled", "p"])
    assert table.loc["within", "lo"] < table.loc["within", "rho"] < table.loc["within", "hi"]
    assert "not independent" in table.loc["pooled", "note"]
    cells = results.correlate("label_free/rankme", "probe/auroc", group=["method", "backbone", "imbalance"], n_boot=50)
    assert set(cells["num_groups"]) == {35}
    assert "partial" not in set(cells["level"])  # nothing is left to vary inside a cell but the seed


def test_regret_of_the_metric_itself_is_zero_and_of_a_blind_choice_is_not(results: StudyResults) -> None:
    table = results.regret(["probe/ap", "label_free/rankme"], "probe/auroc", within=["method", "imbalance"])
    table = table.set_index("selector")
    assert table.index.tolist() == ["probe/ap", "label_free/rankme", "train/loss", "random"]
    assert (table["n"] == 18).all()
    assert table.loc["probe/ap", "regret"] < 1e-9  # equal to auroc up to a constant in the synthetic study
    assert table.loc["probe/ap", "picked_best"] == 1
    assert table.loc["random", "regret"] > 0
    assert (table["lo"] <= table["regret"]).all()


def test_variance_uses_complete_cells_and_says_what_was_left_out(results: StudyResults) -> None:
    table = results.variance("probe/auroc").set_index("term")
    assert table["note"].unique().tolist() == ["left out, too few finished trials in some cell: method dino"]
    assert table.loc["method", "df"] == 4
    assert table.loc["residual", "df"] == 5 * 2 * 3 * 2
    assert np.isfinite(table.loc["method", ["omega2", "lo", "hi", "p", "swing"]].to_numpy(float)).all()


def test_variance_of_a_complete_grid_ranks_the_factors(tmp_path: Path) -> None:
    write_study(tmp_path / "study", epochs=1, num_test=4)
    table = load_study("study", tmp_path).variance("probe/auroc").set_index("term")
    assert table.index.tolist() == [
        "method",
        "backbone",
        "imbalance",
        "method:backbone",
        "method:imbalance",
        "backbone:imbalance",
        "method:backbone:imbalance",
        "residual",
    ]
    assert (table["note"] == "").all()
    assert table.loc["method", "omega2"] > table.loc["backbone", "omega2"] > 0
    assert table.loc["backbone", "swing"] == pytest.approx(0.03, abs=0.01)  # as the synthetic study was made
    assert table.loc["residual", "df"] == 6 * 2 * 3 * 2


def test_an_unbalanced_cell_costs_seeds_not_levels(tmp_path: Path) -> None:
    write_study(tmp_path / "study", epochs=1, num_test=4, states={"mae-resnet18-p0.5-s1": FAILED})
    table = load_study("study", tmp_path).variance("probe/auroc")
    assert table["note"].unique().tolist() == ["35 trials left out so that every cell has 2"]
    assert table.set_index("term").loc["method", "df"] == 5


def test_compare_starts_with_friedman_and_corrects_the_pairs(results: StudyResults) -> None:
    table = results.compare("probe/auroc", by="method")
    assert table["test"].tolist() == ["friedman"] + ["pair"] * 15
    assert (table["n"] == 5).all()
    assert table.loc[0, "note"] == (
        "1 of 6 blocks left out (unfinished trials); 5 blocks: a Wilcoxon p cannot be below 0.0625"
    )
    pair = table[(table["a"] == "mae") & (table["b"] == "supervised")].iloc[0]
    assert pair["difference"] < -0.1
    assert pair["prob_better"] < 0.1
    assert pair["rank_b"] == 1
    assert pair["p_holm"] >= pair["p"]
    two = results.compare("probe/auroc", by="backbone")
    assert math.isnan(two.loc[0, "p"])
    assert "Friedman needs three" in two.loc[0, "note"]
    assert two.loc[1, "prob_better"] > 0.5


def test_scores_and_encoder_of_a_trial_without_them_say_its_state(results: StudyResults, frame: pd.DataFrame) -> None:
    assert {"image_id", "score_probe"} <= set(results.scores(frame.loc[0, "key"]).columns)
    failed = frame.loc[frame["state"] == "FAILED", "key"].iloc[0]
    with pytest.raises(NothingMatched, match=r"has no scores\.parquet; it is FAILED"):
        results.scores(failed)
    with pytest.raises(NothingMatched, match=r"has no encoder\.safetensors"):
        results.encoder(failed)


def test_results_print_their_counts(results: StudyResults) -> None:
    assert repr(results) == "StudyResults('full': 105 FINISHED, 3 FAILED)"
    page = results._repr_html_()
    assert "metrics.probe/auroc" in page
    assert "params." not in page
