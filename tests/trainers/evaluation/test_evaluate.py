"""The whole evaluation: which keys, which are left out, and that none is ever NaN."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import typing

import numpy as np
import pytest

from ablation.search_settings import OBJECTIVES
from tests.trainers.evaluation.synthetic import eval_input, feature_set
from trainers.config import EvaluationConfig
from trainers.evaluation.catalogue import IN_STORE_ONLY, METRICS, Better
from trainers.evaluation.evaluate import SCORE_COLUMNS, EvalInput, FeatureSet, evaluate, random_init_score
from trainers.evaluation.metrics import auroc
from trainers.records import TrainingError

CONFIG = EvaluationConfig()
OTHERS = {"train/loss", "train/images_per_second", "train/data_wait", "time/setup", "time/train", "time/evaluate",
          "time/total", "memory/peak_mb"}
OTHER_KEYS = len(OTHERS)


def test_keys_are_exactly_those_of_the_design() -> None:
    seven = {"auroc", "ap", "f1", "f2", "balanced_accuracy", "fpr_at_95tpr", "precision_at_deployment"}
    expected = {f"{probe}/{name}" for probe in ("probe", "probe_balanced") for name in seven}
    expected |= {"probe_fixed/auroc", "probe_fixed/ap", "knn/auroc", "knn/ap", "random_init/auroc",
                 "detector/knn_auroc", "detector/mahalanobis_auroc", "sewer/f2_ciw", "sewer/f1_normal"}
    expected |= {f"label_free/{name}" for name in ("rankme", "rankme_embedding", "alpha_req", "nesum", "stable_rank",
                                                   "self_cluster", "uniformity")}
    found = evaluate(eval_input(), CONFIG, seed=0).metrics
    assert set(found) == expected
    with_views = set(evaluate(eval_input(views=True), CONFIG, seed=0).metrics)
    assert with_views == expected | {"label_free/lidar", "label_free/alignment"}
    assert with_views <= set(METRICS)
    assert len(with_views) + OTHER_KEYS <= 40
    # MLflow's run also has the curves' rate, feature_std and one sign of collapse of its method.
    assert len((with_views | OTHERS) - IN_STORE_ONLY) + 3 <= 40
    further = evaluate(eval_input(), CONFIG, seed=0).further
    assert set(further) <= set(METRICS)
    alone = {"rankme_per_width", "alpha_req_r2", "pseudo_condition", "coherence", "isoscore", "two_nn",
             "cluster_learnability"}
    own = alone | {"rankme", "alpha_req", "nesum", "stable_rank", "self_cluster", "uniformity"}
    assert set(further) == {f"label_free/{name}" for name in alone} | {f"label_free_own/{name}" for name in own}


def test_separable_defects_score_high_and_permuted_labels_do_not() -> None:
    data = eval_input()
    found = evaluate(data, CONFIG, seed=0)
    assert found.metrics["probe/auroc"] > 0.8
    assert found.metrics["probe/balanced_accuracy"] > 0.7
    assert found.metrics["sewer/f1_normal"] > 0.6
    # At 10 % in training and 50 % in validation, the right cut is far below 0.5.
    assert found.thresholds["probe/f1"] < 0.4
    assert found.thresholds["probe/deployment"] > found.thresholds["probe/f1"]
    shuffled = dataclasses.replace(data.train, labels=np.random.default_rng(0).permutation(data.train.labels))
    assert evaluate(dataclasses.replace(data, train=shuffled), CONFIG, seed=0).metrics["probe/auroc"] < 0.7


def test_scores_cover_validation_then_test_and_reproduce_the_metrics() -> None:
    data = eval_input()
    report = evaluate(data, CONFIG, seed=0)
    assert set(report.scores) == set(SCORE_COLUMNS)
    start = len(data.validation.labels)
    for name, key in (("score_probe", "probe/auroc"), ("score_probe_balanced", "probe_balanced/auroc"),
                      ("score_detector_knn", "detector/knn_auroc"),
                      ("score_detector_mahalanobis", "detector/mahalanobis_auroc")):
        values = report.scores[name]
        assert values.dtype == np.float32
        assert len(values) == start + len(data.test.labels)
        assert auroc(data.test.labels, values[start:]) == pytest.approx(report.metrics[key], abs=1e-6)
    assert 0 <= report.scores["score_probe"].min() <= report.scores["score_probe"].max() <= 1


def test_the_same_input_and_seed_give_the_same_numbers() -> None:
    first, second = (evaluate(eval_input(), CONFIG, seed=3).metrics for _ in range(2))
    assert first == second


def test_what_a_search_may_look_at_does_not_depend_on_the_test_set() -> None:
    data = eval_input(views=True)
    rng = np.random.default_rng(0)
    test = dataclasses.replace(data.test, features=rng.permutation(data.test.features) + 1, codes=None)
    here, there = (evaluate(one, CONFIG, seed=0) for one in (data, dataclasses.replace(data, test=test)))
    assert here.metrics["probe/auroc"] != there.metrics["probe/auroc"]  # that one would tell
    for source in set(OBJECTIVES.values()) - {"train/loss"}:
        seen = [(report.metrics | report.further | report.validation)[source] for report in (here, there)]
        assert seen[0] == seen[1], source


def test_fixed_probe_does_not_depend_on_the_level() -> None:
    keys = ("probe_fixed/auroc", "probe_fixed/ap", "label_free/rankme")
    rare, balanced = (evaluate(eval_input(prevalence=p), CONFIG, seed=0).metrics for p in (0.05, 0.5))
    assert [rare[key] for key in keys] == [balanced[key] for key in keys]
    assert rare["probe/auroc"] != balanced["probe/auroc"]


def test_random_init_score_is_the_same_probe() -> None:
    data = eval_input()
    score = random_init_score(data.train, data.test, seed=0)
    assert score == pytest.approx(evaluate(data, CONFIG, seed=0).metrics["probe/auroc"], abs=1e-9)


def constant(original: FeatureSet) -> FeatureSet:
    """The same set after a total collapse."""
    embeddings = None if original.embeddings is None else np.zeros_like(original.embeddings)
    return dataclasses.replace(original, features=np.full_like(original.features, 0.3), embeddings=embeddings)


def assert_finite(data: EvalInput) -> dict[str, float]:
    report = evaluate(data, CONFIG, seed=0)
    assert all(np.isfinite(value) for value in report.metrics.values())
    assert all(np.isfinite(value) for value in report.thresholds.values())
    return report.metrics


@pytest.mark.filterwarnings("error")
def test_collapsed_features_give_chance_and_no_nan() -> None:
    data = eval_input()
    found = assert_finite(EvalInput(
        train=constant(data.train), validation=constant(data.validation), test=constant(data.test),
        fixed_labelled=constant(data.fixed_labelled), level_free=constant(data.level_free)))
    for key in ("probe/auroc", "probe_fixed/auroc", "knn/auroc", "detector/knn_auroc", "detector/mahalanobis_auroc"):
        assert found[key] == pytest.approx(0.5)
    assert found["label_free/rankme"] == pytest.approx(1, abs=1e-3)
    assert "label_free/nesum" not in found
    assert "label_free/rankme_embedding" not in found


@pytest.mark.filterwarnings("error")
def test_one_class_in_the_subset_leaves_the_probes_out() -> None:
    data = eval_input()
    report = evaluate(dataclasses.replace(data, train=feature_set(100, 24, 0.0, 0, codes=True)), CONFIG, seed=0)
    families = {key.split("/")[0] for key in report.metrics}
    assert families == {"probe_fixed", "detector", "label_free", "random_init"}
    assert np.isnan(report.scores["score_probe"]).all()
    assert np.isfinite(report.scores["score_detector_knn"]).all()


@pytest.mark.filterwarnings("error")
def test_one_class_in_validation_or_test_leaves_out_what_needs_both() -> None:
    data = eval_input()
    found = assert_finite(dataclasses.replace(data, validation=feature_set(50, 24, 0.0, 1, codes=True)))
    assert "probe/auroc" in found
    assert not {"probe/f1", "probe/precision_at_deployment", "sewer/f2_ciw"} & set(found)
    found = assert_finite(dataclasses.replace(data, test=feature_set(50, 24, 0.0, 2, codes=True)))
    assert not {"probe/auroc", "knn/ap", "detector/knn_auroc", "probe/fpr_at_95tpr"} & set(found)


def test_codes_are_optional() -> None:
    assert not any(key.startswith("sewer/") for key in evaluate(eval_input(codes=False), CONFIG, seed=0).metrics)


def test_features_that_are_not_finite_end_the_run_as_diverged() -> None:
    data = eval_input()
    data.test.features[3, 2] = np.inf
    with pytest.raises(TrainingError, match="test features") as caught:
        evaluate(data, CONFIG, seed=0)
    assert caught.value.reason == "diverged"


def test_the_catalogue_loads_without_torch_or_numpy() -> None:
    code = ("import sys; from trainers.evaluation.catalogue import METRICS; assert len(METRICS) > 30; "
            "print([m for m in ('torch', 'numpy', 'sklearn') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_metric_is_explained() -> None:
    for key, info in METRICS.items():
        assert key.count("/") == 1
        assert all((info.summary, info.range, info.source)), key
        assert info.better in typing.get_args(Better)
