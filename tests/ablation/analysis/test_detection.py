"""Detection at a deployment prevalence: reference values, coverage of the intervals by simulation, small cases."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from ablation.analysis import detection
from ablation.analysis.detection import Sample

UNKNOWN = math.nan


def gaussian_shift(area: float) -> float:
    """Distance of two unit Gaussians with that AUROC: Φ(d / √2)."""
    return float(math.sqrt(2) * stats.norm.ppf(area))


def draw(rng: np.random.Generator, area: float, normals: int, defects: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat([0, 1], [normals, defects])
    return labels, rng.standard_normal(normals + defects) + gaussian_shift(area) * labels


def true_average_precision(area: float, prevalence: float) -> float:
    """∫ precision dTPR of two Gaussians."""
    shift = gaussian_shift(area)

    def slice_at(x: float) -> float:
        hits, alarms = prevalence * stats.norm.sf(x - shift), (1 - prevalence) * stats.norm.sf(x)
        return float(hits / (hits + alarms) * stats.norm.pdf(x - shift))

    return float(integrate.quad(slice_at, -7, 9, limit=200)[0])


def score_frame(rng: np.random.Generator, area: float = 0.92, validation: int = 200, test: int = 200) -> pd.DataFrame:
    parts = []
    for split, number in (("validation", validation), ("test", test)):
        labels, scores = draw(rng, area, number // 2, number - number // 2)
        types = [("RB", "OB")[i % 2] if label else "" for i, label in enumerate(labels)]
        parts.append(pd.DataFrame({"image_id": [f"{split}{i}" for i in range(number)], "split": split, "label": labels,
                                   "defect_type": types, "score_probe": scores.astype(np.float32)}))
    return pd.concat(parts, ignore_index=True)


# --- rates and precision ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prevalence", "expected"),
                         [(0.5, 0.947), (0.15, 0.761), (0.05, 0.486), (0.02, 0.269), (0.01, 0.154)])
def test_precision_by_bayes_rule(prevalence: float, expected: float) -> None:
    """By hand: 0.9 π / (0.9 π + 0.05 (1 - π))."""
    assert detection.precision_at(np.array(0.9), np.array(0.05), prevalence) == pytest.approx(expected, abs=5e-4)


def test_curve_in_the_smallest_case() -> None:
    """Scores 4 defect, 3 normal, 2 defect, 1 normal at π = 0.2; precision = 0.2 TPR / (0.2 TPR + 0.8 FPR)."""
    frame = detection.curve(np.array([1, 0, 1, 0]), np.array([4.0, 3, 2, 1]), 0.2)
    assert frame["tpr"].tolist() == [0, 0.5, 0.5, 1, 1]
    assert frame["fpr"].tolist() == [0, 0, 0.5, 0.5, 1]
    assert frame["precision"].tolist() == pytest.approx([UNKNOWN, 1, 0.2, 1 / 3, 0.2], nan_ok=True)
    assert frame["threshold"].tolist()[1:] == [4, 3, 2, 1]
    exact = stats.binomtest(1, 2).proportion_ci(method="exact")
    assert (frame["tpr_lo"][1], frame["tpr_hi"][1]) == pytest.approx((exact.low, exact.high))
    inside = frame.dropna()
    for rate in ("fpr", "tpr", "precision"):
        assert ((inside[f"{rate}_lo"] <= inside[rate]) & (inside[rate] <= inside[f"{rate}_hi"])).all()
    assert set(frame["n_normals"]) == set(frame["n_defects"]) == {2}


def test_a_long_curve_is_thinned_along_its_length_and_keeps_its_ends() -> None:
    labels, scores = draw(np.random.default_rng(0), 0.9, 4000, 4000)
    frame = detection.curve(labels, scores, 0.02, most=100)
    assert 80 <= len(frame) <= 101
    assert (frame["tpr"].iloc[0], frame["fpr"].iloc[0]) == (0, 0)
    assert (frame["tpr"].iloc[-1], frame["fpr"].iloc[-1]) == (1, 1)
    assert np.diff(frame["tpr"] + frame["fpr"]).max() < 0.03


def test_interval_of_precision_holds_its_level() -> None:
    """At a fixed threshold; conservative by construction, so never below 95 %."""
    rng, runs, n = np.random.default_rng(1), 200, 100
    shift, cut = gaussian_shift(0.92), 1.0
    tpr, fpr = stats.norm.sf(cut - shift), stats.norm.sf(cut)
    truth = 0.05 * tpr / (0.05 * tpr + 0.95 * fpr)
    covered = 0
    for hits, alarms in zip(rng.binomial(n, tpr, runs), rng.binomial(n, fpr, runs), strict=True):
        labels = np.repeat([1, 0], n)
        scores = np.concatenate([np.arange(n) < hits, np.arange(n) < alarms]).astype(float)
        row = detection.curve(labels, scores, 0.05).iloc[1]
        covered += row["precision_lo"] <= truth <= row["precision_hi"]
    assert covered / runs >= 0.95


# --- AUROC -----------------------------------------------------------------------------------------------------------


def brute_force(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """(AUROC, DeLong variance) from the kernel of all pairs: DeLong et al. 1988, equations 3 to 5."""
    pairs = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    kernel = (pairs > 0) + 0.5 * (pairs == 0)
    by_defect, by_normal = kernel.mean(1), kernel.mean(0)
    return kernel.mean(), by_defect.var(ddof=1) / len(by_defect) + by_normal.var(ddof=1) / len(by_normal)


@pytest.mark.parametrize("digits", [8, 0])
def test_delong_equals_all_pairs_with_and_without_ties(digits: int) -> None:
    labels, scores = draw(np.random.default_rng(2), 0.8, 37, 23)
    scores = scores.round(digits)
    found, (area, variance) = detection.auroc(labels, scores), brute_force(labels, scores)
    half = stats.norm.ppf(0.975) * math.sqrt(variance) / (area * (1 - area))
    expected = [1 / (1 + math.exp(-(math.log(area / (1 - area)) + side * half))) for side in (-1, 1)]
    assert (found.value, found.lo, found.hi) == pytest.approx((area, *expected), abs=1e-12)
    assert (found.n_normals, found.n_defects) == (37, 23)


@pytest.mark.parametrize("area", [0.7, 0.92])
def test_interval_of_auroc_covers_the_truth(area: float) -> None:
    rng, runs = np.random.default_rng(3), 2000
    found = [detection.auroc(*draw(rng, area, 100, 100)) for _ in range(runs)]
    assert 0.93 <= np.mean([e.lo <= area <= e.hi for e in found]) <= 0.97


def test_auroc_of_what_cannot_be_told() -> None:
    one_class = detection.auroc(np.zeros(5), np.arange(5.0))
    assert (math.isnan(one_class.value), one_class.n_normals, one_class.n_defects) == (True, 5, 0)
    apart = detection.auroc(np.array([0, 0, 1, 1]), np.array([1.0, 2, 3, 4]))
    assert apart.value == 1
    assert math.isnan(apart.lo)


# --- average precision -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prevalence", "about"), [(0.5, 0.92), (0.15, 0.74), (0.05, 0.53), (0.02, 0.36), (0.01, 0.28)])
def test_average_precision_of_a_fixed_detector_falls_with_prevalence(prevalence: float, about: float) -> None:
    """AUROC .92 of two Gaussians: the step sum over many images is the integral, and near the rounded figures."""
    truth = true_average_precision(0.92, prevalence)
    assert truth == pytest.approx(about, abs=0.02)
    places = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    scores = np.concatenate([places, places + gaussian_shift(0.92)])
    assert detection.average_precision(np.repeat([0, 1], 20_000), scores, prevalence) == pytest.approx(truth, abs=3e-3)


def test_average_precision_of_noise_is_the_prevalence() -> None:
    labels, scores = np.tile([0, 1], 20_000), np.random.default_rng(4).random(40_000)
    assert detection.average_precision(labels, scores, 0.02) == pytest.approx(0.02, abs=3e-3)


@pytest.mark.parametrize("prevalence", [0.5, 0.02])
def test_interval_of_average_precision_covers_the_truth_where_the_plain_bootstrap_does_not(prevalence: float) -> None:
    """Over 300 test sets of 100 + 100 images; sampling error of the share is 1.3 points."""
    rng, truth = np.random.default_rng(5), true_average_precision(0.92, prevalence)
    found, plain = [], []
    for _ in range(300):
        labels, scores = draw(rng, 0.92, 100, 100)
        found.append(detection.average_precision_interval(labels, scores, prevalence, num_boot=200))
        if prevalence < 0.1 and len(plain) < 50:
            rows = [np.concatenate([rng.integers(0, 100, 100), rng.integers(100, 200, 100)]) for _ in range(40)]
            values = [detection.average_precision(labels[take], scores[take], prevalence) for take in rows]
            plain.append(np.quantile(values, [0.025, 0.975]))
    assert np.mean([e.lo <= truth <= e.hi for e in found]) >= 0.92
    assert all(e.lo <= e.value <= e.hi for e in found)
    if plain:
        assert np.mean([lo <= truth <= hi for lo, hi in plain]) < 0.8


def test_average_precision_interval_knows_ties() -> None:
    """One score for all: precision is π at every draw."""
    found = detection.average_precision_interval(np.tile([0, 1], 400), np.ones(800), 0.1)
    assert (found.value, found.lo, found.hi) == pytest.approx((0.1, 0.1, 0.1), abs=2e-3)


@pytest.mark.parametrize("prevalence", [0, 1, 1.5, UNKNOWN])
def test_a_prevalence_outside_0_to_1_is_refused(prevalence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        detection.average_precision(np.array([0, 1]), np.array([0.0, 1]), prevalence)


# --- types -----------------------------------------------------------------------------------------------------------


def test_recall_by_type_counts_every_code_of_a_text() -> None:
    types = np.array(["RB", "RB+OB", "OB, AF", "BE", "", ""], dtype=object)
    sample = Sample(np.array([1, 1, 1, 1, 1, 0]), np.array([0.9, 0.2, 0.8, 0.5, 0.1, 0.99]), types)
    frame = detection.recall_by_type(sample, 0.5)
    assert frame[["type", "n", "found"]].values.tolist() == [
        ["OB", 2, 1], ["RB", 2, 1], ["AF", 1, 1], ["BE", 1, 1], ["unnamed", 1, 0]]
    assert frame["recall"].tolist() == [0.5, 0.5, 1, 1, 0]
    exact = stats.binomtest(1, 2).proportion_ci(method="exact")
    assert (frame["lo"][0], frame["hi"][0]) == pytest.approx((exact.low, exact.high))
    unknown = detection.recall_by_type(sample, UNKNOWN)
    assert unknown["n"].sum() == 7
    assert unknown[["recall", "lo", "hi"]].isna().all(axis=None)


def test_recall_by_type_without_defects_is_empty() -> None:
    frame = detection.recall_by_type(Sample(np.array([0]), np.array([0.5]), np.array([""], dtype=object)), 0.1)
    assert frame.columns.tolist() == ["type", "n", "found", "recall", "lo", "hi"]
    assert frame.empty


# --- tables ----------------------------------------------------------------------------------------------------------


def test_take_leaves_out_unlabelled_and_unscored_images() -> None:
    frame = pd.DataFrame({"split": ["test", "test", "test", "validation"], "label": [0, -1, 1, 1],
                          "defect_type": ["", "", "RB", "RB"], "score_probe": [0.1, 0.2, UNKNOWN, 0.4]})
    sample = detection.take(frame, "score_probe", "test")
    assert (sample.labels.tolist(), sample.scores.tolist(), sample.types.tolist()) == ([0], [0.1], [""])
    assert not len(detection.take(frame, "score_missing", "test").scores)


def test_summary_of_a_trial_has_all_numbers_and_says_what_too_few_normals_forbid() -> None:
    frame = detection.trial_summary(score_frame(np.random.default_rng(6)), "score_probe").set_index("quantity")
    assert frame.index.tolist() == list(detection.QUANTITIES)
    assert ((frame["lo"] <= frame["value"]) & (frame["value"] <= frame["hi"])).all()
    assert frame["chance"].tolist() == [0.5, 0.02, 0.05, 0.05]
    assert (frame[["n_normals", "n_defects"]] == 100).all(axis=None)
    few = detection.trial_summary(score_frame(np.random.default_rng(6), validation=30), "score_probe")
    few = few.set_index("quantity")
    assert few.loc[["tpr_at_budget", "fpr_at_budget"], ["value", "lo", "hi"]].isna().all(axis=None)
    assert few.loc["tpr_at_budget", "note"].startswith("15 validation normals are too few")
    assert few.loc["auroc", "value"] > 0.8


def test_over_seeds_is_the_student_interval_of_the_seeds_that_have_a_number() -> None:
    rng = np.random.default_rng(7)
    trials = [score_frame(rng) for _ in range(4)]
    broken = trials[0].assign(score_probe=UNKNOWN)
    frame = detection.over_seeds([*trials, broken], "score_probe").set_index("quantity")
    values = [detection.auroc((s := detection.take(t, "score_probe", "test")).labels, s.scores).value for t in trials]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert frame.loc["auroc", ["value", "lo", "hi"]].tolist() == pytest.approx([np.mean(values), *expected])
    assert frame["n"].tolist() == [4] * 4
    assert frame["planned"].tolist() == [5] * 4
    assert detection.over_seeds(trials[:2], "score_probe")[["lo", "hi"]].isna().all(axis=None)
    assert detection.over_seeds([], "score_probe")["value"].isna().all()
