"""Classification metrics against hand-worked examples and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, fbeta_score

from trainers.evaluation import metrics


def gaussian_scores(num_normals: int, num_defects: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores N(0, 1) for normal and N(2, 1) for defect images: AUROC = Phi(2 / sqrt 2) = 0.921."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [num_normals, num_defects])
    return labels, rng.normal(size=len(labels)) + 2 * labels


def test_auroc_and_ap_of_known_gaussians() -> None:
    labels, scores = gaussian_scores(50_000, 50_000)
    assert metrics.auroc(labels, scores) == pytest.approx(norm.cdf(math.sqrt(2)), abs=2e-3)
    # Source: ecosystem.md section 4.3, AUROC .92 gives AP .92 / .28 at prevalence .5 / .01.
    assert metrics.average_precision(labels, scores) == pytest.approx(0.92, abs=0.01)
    labels, scores = gaussian_scores(198_000, 2_000)
    assert metrics.average_precision(labels, scores) == pytest.approx(0.28, abs=0.03)


@pytest.mark.parametrize(("prevalence", "expected"),
                         [(0.5, 0.947), (0.15, 0.761), (0.05, 0.486), (0.02, 0.269), (0.01, 0.154)])
def test_precision_at_prevalence(prevalence: float, expected: float) -> None:
    """TPR .9 and FPR .05 give the precisions of ecosystem.md section 4.3."""
    labels = np.repeat([1, 0], [100, 100])
    scores = np.concatenate([np.ones(90), np.zeros(10), np.ones(5), np.zeros(95)])
    assert metrics.precision_at_prevalence(labels, scores, prevalence, 0.5) == pytest.approx(expected, abs=6e-4)
    assert math.isnan(metrics.precision_at_prevalence(labels, scores, prevalence, 2.0))  # nothing flagged


def test_threshold_metrics_agree_with_scikit_learn() -> None:
    labels, scores = gaussian_scores(300, 60)
    for threshold in (-1.0, 0.7, 1.5):
        flagged = scores >= threshold
        for beta in (1.0, 2.0):
            expected = fbeta_score(labels, flagged, beta=beta)
            assert metrics.f_beta(labels, scores, threshold, beta) == pytest.approx(expected)
        expected = balanced_accuracy_score(labels, flagged)
        assert metrics.balanced_accuracy(labels, scores, threshold) == pytest.approx(expected)
    assert metrics.f_beta(labels, scores, 99.0) == 0.0


def test_fpr_at_95tpr_by_hand() -> None:
    """20 defects: 19 must be found, so the threshold is the second lowest defect score."""
    labels = np.repeat([1, 0], [20, 10])
    scores = np.concatenate([np.linspace(10, 29, 20), [5, 6, 7, 8, 9, 10.5, 12, 13, 14, 15]])
    assert metrics.fpr_at_tpr(labels, scores, 0.95) == pytest.approx(0.4)  # normals at or above 11
    assert metrics.fpr_at_tpr(labels, scores, 1.0) == pytest.approx(0.5)


def test_threshold_maximises_f_beta_at_the_stated_prevalence() -> None:
    """No other cut is better on data that really has this prevalence."""
    labels, scores = gaussian_scores(60, 60)
    for prevalence, beta in ((0.5, 1.0), (0.02, 1.0), (0.02, 2.0)):
        chosen = metrics.choose_threshold(labels, scores, prevalence, beta)

        def weighted_f(threshold: float, prevalence: float = prevalence, beta: float = beta) -> float:
            weights = np.where(labels == 1, prevalence, 1 - prevalence)
            return float(fbeta_score(labels, scores >= threshold, beta=beta, sample_weight=weights))

        assert weighted_f(chosen) == pytest.approx(max(weighted_f(cut) for cut in scores))


def test_rarer_defects_ask_for_a_stricter_threshold_and_higher_beta_for_a_laxer_one() -> None:
    labels, scores = gaussian_scores(5_000, 5_000)
    rare, balanced = (metrics.choose_threshold(labels, scores, prevalence) for prevalence in (0.02, 0.5))
    assert rare > balanced + 0.5
    assert metrics.choose_threshold(labels, scores, 0.5, beta=2) < balanced
    # The optimum for N(0,1) against N(2,1) is nowhere near 0.5 as a score.
    assert abs(rare - 0.5) > 0.5


def test_threshold_lies_between_the_classes_and_ties_are_cut_together() -> None:
    assert metrics.choose_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.6, 0.9]), 0.5) == pytest.approx(0.4)
    tied = metrics.choose_threshold(np.array([0, 1, 1, 0]), np.array([0.3, 0.3, 0.3, 0.1]), 0.5)
    assert tied == pytest.approx(0.2)


def test_one_class_is_nan_everywhere() -> None:
    labels, scores = np.zeros(5, int), np.arange(5.0)
    values = [metrics.auroc(labels, scores), metrics.average_precision(labels, scores),
              metrics.f_beta(labels, scores, 2.0), metrics.balanced_accuracy(labels, scores, 2.0),
              metrics.fpr_at_tpr(labels, scores),
              metrics.precision_at_prevalence(labels, scores, 0.1, 2.0), metrics.choose_threshold(labels, scores, 0.1)]
    assert all(math.isnan(value) for value in values)


def codes(*rows: str) -> np.ndarray:
    """One row per image, given as the codes it has."""
    return np.array([[code in row.split() for code in metrics.SEWER_CODES] for row in rows])


def test_class_importance_sums_to_the_papers_total() -> None:
    """Source: paper.md section 6.2 (Haurum & Moeslund, CVPR 2021)."""
    assert len(metrics.SEWER_CODES) == 17
    assert metrics.CLASS_IMPORTANCE.sum() == pytest.approx(6.7024)


def test_f2_ciw_and_f1_normal_by_hand() -> None:
    truth = codes("RB", "RB OK", "FS", "", "", "")
    found = codes("RB", "OK", "", "", "FS", "")
    # RB: P 1, R 1/2 -> F2 = 5*.5/(4+.5) = 5/9. OK: 1. FS: no hit -> 0. All other codes NaN -> 0.
    assert metrics.f2_ciw(truth, found) == pytest.approx((1.0 * 5 / 9 + 0.4396) / 6.7024)
    # Normal: true rows 3, 4, 5; called 2, 3, 5 -> P = R = 2/3.
    assert metrics.f1_normal(truth, found) == pytest.approx(2 / 3)
    assert metrics.f1_normal(truth, codes(*["RB"] * 6)) == 0.0
    assert metrics.f2_ciw(truth, codes(*[""] * 6)) == 0.0
