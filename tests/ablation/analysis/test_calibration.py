"""Calibration: Platt scaling finds a known distortion, the shift moves the prior, errors fall."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit

from ablation.analysis import calibration


def draw(rng: np.random.Generator, number: int, prevalence: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and their true posterior at ``prevalence``: two unit Gaussians at 0 and 2, log odds 2x - 2 + prior."""
    labels = (rng.random(number) < prevalence).astype(int)
    x = rng.standard_normal(number) + 2 * labels
    return labels, expit(2 * x - 2 + logit(prevalence))


def distorted(probabilities: np.ndarray) -> np.ndarray:
    """Too sure by a factor of 2, and at another prior."""
    return np.asarray(expit(2 * logit(probabilities) - 1.5))


def test_platt_undoes_a_known_distortion() -> None:
    labels, truth = draw(np.random.default_rng(0), 40_000, 0.3)
    fitted = calibration.fit_platt(labels, distorted(truth))
    assert (fitted.slope, fitted.offset) == pytest.approx((0.5, 0.75), abs=0.04)
    assert (fitted.prevalence, fitted.n) == (labels.mean(), 40_000)


def test_platt_is_the_minimum_of_the_smoothed_log_loss() -> None:
    """Platt 1999, equations 2 and 3, minimised by another routine."""
    labels, truth = draw(np.random.default_rng(1), 60, 0.4)
    defects, normals = labels.sum(), (1 - labels).sum()
    target = np.where(labels == 1, (defects + 1) / (defects + 2), 1 / (normals + 2))

    def loss(line: np.ndarray) -> float:
        z = line[0] * logit(truth) + line[1]
        return float(np.sum(np.logaddexp(0, z) - target * z))

    fitted = calibration.fit_platt(labels, truth)
    assert (fitted.slope, fitted.offset) == pytest.approx(minimize(loss, [1, 0], tol=1e-12).x, abs=1e-4)


def test_platt_stays_finite_where_the_classes_are_apart_or_probabilities_are_0_and_1() -> None:
    fitted = calibration.fit_platt(np.array([0, 0, 1, 1]), np.array([0.0, 0.1, 0.9, 1.0]))
    assert 0 < fitted.slope < 10
    assert np.isfinite(fitted.at(np.array([0.0, 0.5, 1.0]), 0.02)).all()


def test_the_shift_gives_the_posterior_at_the_deployment_prevalence() -> None:
    """The true posterior at 2 % from one fitted where 30 % are defects: Bayes' rule on the same x."""
    rng = np.random.default_rng(2)
    labels, truth = draw(rng, 40_000, 0.3)
    moved = calibration.fit_platt(labels, distorted(truth)).at(distorted(truth), 0.02)
    expected = expit(logit(truth) - logit(0.3) + logit(0.02))
    assert np.abs(moved - expected).max() < 0.03


def test_reliability_by_hand() -> None:
    """Two bins of 4: 1 and 3 defects of 4. At π = 0.2 a defect weighs 0.05, a normal 0.2."""
    labels = np.array([0, 0, 0, 1, 0, 1, 1, 1])
    probabilities = np.array([0.1, 0.1, 0.2, 0.2, 0.8, 0.8, 0.9, 0.9])
    frame = calibration.reliability(labels, probabilities, 0.2, bins=2)
    assert frame[["n", "n_defects"]].values.tolist() == [[4, 1], [4, 3]]
    assert frame["weight"].tolist() == pytest.approx([0.65, 0.35])
    assert frame["observed"].tolist() == pytest.approx([0.05 / 0.65, 0.15 / 0.35])
    assert frame["predicted"][0] == pytest.approx((0.2 * 0.4 + 0.05 * 0.2) / 0.65)
    assert ((frame["lo"] < frame["observed"]) & (frame["observed"] < frame["hi"])).all()
    # Half defects in the test set: at π = 0.5 the interval is plainly that of 1 in 4 (Clopper & Pearson 1934).
    plain = calibration.reliability(labels, probabilities, 0.5, bins=2)
    assert (plain["lo"][0], plain["hi"][0]) == pytest.approx((0.00631, 0.80588), abs=1e-4)


def test_brier_and_calibration_error_by_hand() -> None:
    labels, probabilities = np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.6, 1.0])
    frame = calibration.errors(labels, probabilities, 0.2, bins=2).set_index("error")
    brier = 0.8 * (0.01 + 0.09) / 2 + 0.2 * (0.16 + 0) / 2
    assert frame.loc["brier", "value"] == pytest.approx(brier)
    assert frame.loc["brier", "chance"] == pytest.approx(0.16)
    assert frame.loc["ece", "value"] == pytest.approx(0.8 * 0.2 + 0.2 * 0.2)


def test_interval_of_the_brier_score_covers_the_truth() -> None:
    rng, covered = np.random.default_rng(3), []
    labels, truth = draw(rng, 400_000, 0.5)
    expected = float(np.mean((truth - labels) ** 2))
    for start in range(0, 200 * 200, 200):
        part = slice(start, start + 200)
        row = calibration.errors(labels[part], truth[part], 0.5, num_boot=200).iloc[0]
        covered.append(row["lo"] <= expected <= row["hi"])
    assert 0.90 <= np.mean(covered) <= 0.99


def frame_of(rng: np.random.Generator, number: int = 4000) -> pd.DataFrame:
    parts = []
    for split in ("validation", "test"):
        labels, truth = draw(rng, number, 0.5)
        parts.append(pd.DataFrame({"split": split, "label": labels, "defect_type": "",
                                   "score_probe": distorted(truth).astype(np.float32), "score_detector_knn": 2.0}))
    return pd.concat(parts, ignore_index=True)


def test_a_trial_is_better_calibrated_after() -> None:
    table, errors = calibration.trial_calibration(frame_of(np.random.default_rng(4)), prevalence=0.05)
    value = errors.set_index(["stage", "error"])["value"]
    assert value["calibrated", "ece"] < 0.02 < value["as trained", "ece"]
    assert value["calibrated", "brier"] < value["as trained", "brier"]
    assert value["calibrated", "brier"] < 0.05 * 0.95
    assert table["stage"].unique().tolist() == list(calibration.STAGES)
    assert table.groupby("stage")["n"].sum().tolist() == [4000, 4000]
    assert np.allclose(table.groupby("stage")["weight"].sum(), 1)
    after = table[table["stage"] == "calibrated"]
    assert ((after["lo"] <= after["predicted"]) & (after["predicted"] <= after["hi"])).mean() >= 0.8


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_gives_nan_never_an_error(split: str, label: int) -> None:
    frame = frame_of(np.random.default_rng(5), 200)
    frame = frame[(frame["split"] != split) | (frame["label"] == label)]
    table, errors = calibration.trial_calibration(frame)
    calibrated = errors[errors["stage"] == "calibrated"]
    assert calibrated["value"].isna().all()
    assert len(table) == (10 if split == "validation" else 0)


def test_an_empty_frame_gives_empty_tables_and_other_scores_are_refused() -> None:
    frame = frame_of(np.random.default_rng(6), 50)
    table, errors = calibration.trial_calibration(frame.iloc[:0])
    assert table.empty
    assert errors["value"].isna().all()
    assert math.isnan(calibration.fit_platt(np.zeros(3), np.full(3, 0.5)).slope)
    with pytest.raises(ValueError, match="score_detector_knn holds no probabilities"):
        calibration.trial_calibration(frame, "score_detector_knn")
