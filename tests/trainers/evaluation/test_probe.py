"""The probe is scikit-learn's logistic regression, only faster."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.trainers.evaluation.synthetic import correlated_features
from trainers.evaluation.logistic import LogisticProblems
from trainers.evaluation.probe import (
    C_GRID,
    FALLBACK_C,
    ClassWeight,
    LinearProbe,
    MultiLabelProbe,
    PrincipalAxes,
    fit_probes,
)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("C", [1e-4, 1e-2, 10.0])
@pytest.mark.parametrize(("num_rows", "width"), [(300, 40), (60, 120)])
def test_logits_equal_scikit_learn_at_the_same_c(num_rows: int, width: int, C: float,
                                                 class_weight: ClassWeight) -> None:
    """Also with fewer images than features, and with a constant feature."""
    features, labels = correlated_features(num_rows, width, prevalence=0.2, seed=0)
    features[:, 3] = 0.1
    queries, _ = correlated_features(200, width, prevalence=0.5, seed=1)
    probe = LinearProbe.fit(PrincipalAxes(features), labels, seed=0, class_weight=class_weight, C=C)
    regression = LogisticRegression(C=C, class_weight=class_weight, tol=1e-8, max_iter=5000)
    reference = make_pipeline(StandardScaler(), regression)
    expected = reference.fit(features.astype(np.float64), labels).decision_function(queries.astype(np.float64))
    queries[:, 3] = 0.1  # no weight stands on it
    assert np.abs(probe.logits(queries) - expected).max() < 5e-3 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_cross_validated_auroc_equals_the_reference_pipeline(class_weight: ClassWeight) -> None:
    features, labels = correlated_features(600, 48, prevalence=0.15, seed=2)
    queries, truth = correlated_features(800, 48, prevalence=0.5, seed=3)
    probe = LinearProbe.fit(PrincipalAxes(features), labels, seed=5, class_weight=class_weight)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(class_weight=class_weight, max_iter=2000))
    search = GridSearchCV(pipeline, {"logisticregression__C": C_GRID}, scoring="roc_auc",
                          cv=StratifiedKFold(3, shuffle=True, random_state=5))
    search.fit(features.astype(np.float64), labels)
    expected = roc_auc_score(truth, search.decision_function(queries.astype(np.float64)))
    assert 0.6 < expected < 0.99
    assert search.best_params_["logisticregression__C"] == probe.C
    assert roc_auc_score(truth, probe.logits(queries)) == pytest.approx(expected, abs=1e-4)


def test_the_same_seed_gives_the_same_probe() -> None:
    features, labels = correlated_features(200, 16, prevalence=0.3, seed=0)
    first, second = (LinearProbe.fit(PrincipalAxes(features), labels, seed=1) for _ in range(2))
    assert torch.equal(first.solution, second.solution)


def test_probes_fitted_together_equal_probes_fitted_alone() -> None:
    """Problems share matrix products and line searches, not steps."""
    features, labels = correlated_features(250, 30, prevalence=0.1, seed=4)
    axes = PrincipalAxes(features)
    for weight, probe in zip((None, "balanced"), fit_probes(axes, labels, 3, [None, "balanced"]), strict=True):
        alone = LinearProbe.fit(axes, labels, 3, weight)  # type: ignore[arg-type]
        assert probe.C == alone.C
        torch.testing.assert_close(probe.solution, alone.solution, rtol=1e-6, atol=1e-9)


def test_solutions_are_stationary_and_match_scipys_minimiser() -> None:
    """Also for separable classes with almost no penalty, where steps must be cut."""
    features, labels = correlated_features(90, 40, prevalence=0.3, seed=6)
    axes = PrincipalAxes(features)
    rows, signs = axes.coordinates, torch.from_numpy(np.where(labels == 1, 1.0, -1.0))[:, None].expand(-1, 2)
    weights = torch.ones(90, 2, dtype=torch.float64)
    weights[:20, 1] = 0  # not in the second problem
    strengths = torch.tensor([1e3, 1e-3], dtype=torch.float64)
    found = LogisticProblems(rows, axes.energies, signs, weights, strengths).solve(1e-8)
    for number in range(2):
        def loss(w: np.ndarray, number: int = number) -> float:
            margins = signs[:, number].numpy() * (rows.numpy() @ w[:-1] + w[-1])
            penalty = w[:-1] @ w[:-1] / (2 * float(strengths[number]))
            return float(weights[:, number].numpy() @ np.logaddexp(0, -margins) + penalty)

        best = minimize(loss, np.zeros(len(found)), method="L-BFGS-B", options={"maxfun": 10**6, "maxiter": 10**4})
        assert loss(found[:, number].numpy()) <= best.fun + 1e-9
        pull = -weights[:, number] * signs[:, number] * torch.sigmoid(
            -signs[:, number] * (rows @ found[:-1, number] + found[-1, number]))
        gradient = rows.T @ pull + found[:-1, number] / strengths[number]
        assert gradient.abs().max() < 1e-5
        assert abs(pull.sum()) < 1e-5


def test_a_class_of_one_image_takes_the_fixed_c() -> None:
    features, _ = correlated_features(50, 8, prevalence=0.5, seed=0)
    labels = np.zeros(50, int)
    labels[7] = 1
    assert LinearProbe.fit(PrincipalAxes(features), labels, seed=0).C == FALLBACK_C
    with pytest.raises(ValueError, match="both classes"):
        LinearProbe.fit(PrincipalAxes(features), np.zeros(50, int), seed=0)


def test_multi_label_probe_is_one_probe_per_code_and_skips_what_never_occurs() -> None:
    features, labels = correlated_features(300, 16, prevalence=0.3, seed=0)
    axes = PrincipalAxes(features)
    codes = np.stack([labels, np.zeros_like(labels), 1 - labels], axis=1)
    logits = MultiLabelProbe.fit(axes, codes, C=0.1).logits(features)
    assert np.allclose(logits[:, 0], LinearProbe.fit(axes, labels, seed=0, C=0.1).logits(features), atol=1e-2)
    assert np.isneginf(logits[:, 1]).all()
    assert np.allclose(logits[:, 2], -logits[:, 0], atol=1e-2)
