"""All scores of one frozen encoder, from features alone. Same inputs and seed give the same numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import expit

from trainers.config import EvaluationConfig
from trainers.evaluation import detectors, metrics
from trainers.evaluation.catalogue import GIVES_WAY
from trainers.evaluation.custom import custom_metrics
from trainers.evaluation.geometry import spread_rows
from trainers.evaluation.knn import cosine_neighbors, knn_scores
from trainers.evaluation.label_free import further_metrics, label_free_metrics
from trainers.evaluation.probe import ClassWeight, LinearProbe, MultiLabelProbe, PrincipalAxes, ProbeWeights, fit_probes
from trainers.records import TrainingError

PROBES: dict[str, ClassWeight] = {"probe": None, "probe_balanced": "balanced"}
SCORE_COLUMNS = ("score_probe", "score_probe_balanced", "score_detector_knn", "score_detector_mahalanobis")


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """Frozen features of N images."""

    features: np.ndarray
    """(N, D) float32."""
    labels: np.ndarray
    """(N,) 0 normal, 1 defect."""
    codes: np.ndarray | None = None
    """(N, 17) Sewer-ML codes, or None."""
    embeddings: np.ndarray | None = None
    """(N, K) projector output, or None."""


@dataclass(frozen=True, kw_only=True)
class EvalInput:
    """What one evaluation looks at; every set but ``train`` is the same for all trials of a study."""

    train: FeatureSet
    """The trial's own labelled (and pre-training) subset."""
    validation: FeatureSet
    """Thresholds come from here."""
    test: FeatureSet
    fixed_labelled: FeatureSet
    """Training set of ``probe_fixed``."""
    level_free: FeatureSet
    """For the label-free metrics; labels are not looked at."""
    views: np.ndarray | None = None
    """(n, q, D) features of q augmented views of n images, for LiDAR and alignment; or None."""
    random_init_auroc: float | None = None


@dataclass(frozen=True, kw_only=True)
class EvalReport:
    """Scores of one evaluation."""

    metrics: dict[str, float]
    """Finite values only; keys of ``catalogue.METRICS``. What is undefined is left out."""
    further: dict[str, float] = field(default_factory=dict)
    """As ``metrics``; for the analysis only, since a run may log 40 keys: the other label-free metrics, and all of them
    on the trial's own subset."""
    validation: dict[str, float] = field(default_factory=dict)
    """``validation/{auroc,ap}`` of the probe: what a search may look at, where the test set may not be seen."""
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    """``SCORE_COLUMNS``, each (N,) float32 over validation then test; NaN where a score could not be computed."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """``<probe>/{f1,f2,deployment}``: probabilities chosen on validation; finite values only."""
    probe: ProbeWeights | None = None
    """That of ``probe/*`` and ``score_probe``; None where the trial's own subset has one class."""
    problems: list[str] = field(default_factory=list)
    """What went wrong with the study's own metrics, one line each."""


def evaluate(data: EvalInput, config: EvaluationConfig, seed: int,
             device: torch.device | str = "cpu") -> EvalReport:
    """Score every part, probes and neighbours on ``device``. Raises ``TrainingError("diverged")`` for features that
    are not finite."""
    _check_finite(data)
    found: dict[str, float] = {}
    on_validation: dict[str, float] = {}
    thresholds: dict[str, float] = {}
    kept: ProbeWeights | None = None
    scores = {name: np.full(len(data.validation.labels) + len(data.test.labels), np.nan) for name in SCORE_COLUMNS}
    if metrics.has_both_classes(data.train.labels):
        axes = PrincipalAxes(data.train.features, device)
        probes = fit_probes(axes, data.train.labels, seed, list(PROBES.values()))
        for name, probe in zip(PROBES, probes, strict=True):
            validation, test = expit(probe.logits(data.validation.features)), expit(probe.logits(data.test.features))
            scores[f"score_{name}"] = np.concatenate([validation, test])
            chosen = _choose_thresholds(data.validation.labels, validation, data.test.labels, config)
            found |= {f"{name}/{key}": value for key, value in _score(data.test.labels, test, chosen, config).items()}
            thresholds |= {f"{name}/{key}": value for key, value in chosen.items()}
            if name == "probe":
                kept = probe.weights()
                on_validation = _named("validation", {
                    "auroc": metrics.auroc(data.validation.labels, validation),
                    "ap": metrics.average_precision(data.validation.labels, validation)})
                gates = validation >= chosen["f1"], test >= chosen["f1"]
                found |= _sewer(data, axes, probe.C, gates)
    found |= _fixed_probe(data, seed, device)
    found |= _neighbors_and_detectors(data, config, scores, device)
    further = {}
    if len(data.level_free.features):
        features, own = data.level_free.features, spread_rows(data.train.features, config.max_images)
        found |= _named("label_free", label_free_metrics(features, data.level_free.embeddings, data.views))
        further = _named("label_free", further_metrics(features))
        further |= _named("label_free_own", label_free_metrics(own) | further_metrics(own))
    if data.random_init_auroc is not None:
        found["random_init/auroc"] = data.random_init_auroc
    custom, problems = custom_metrics(config.metrics, data, scores["score_probe"][len(data.validation.labels):])
    further |= {key: found.pop(key) for key in GIVES_WAY[: len(config.metrics)] if key in found}
    return EvalReport(metrics=_finite(found | custom), further=_finite(further), validation=_finite(on_validation),
                      thresholds=_finite(thresholds), probe=kept, problems=problems,
                      scores={name: values.astype(np.float32) for name, values in scores.items()})


def _named(family: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{family}/{name}": value for name, value in values.items()}


def random_init_score(train: FeatureSet, test: FeatureSet, seed: int, device: torch.device | str = "cpu") -> float:
    """AUROC of the same probe as ``probe/auroc``, for features of the untrained backbone; NaN for one class."""
    if not metrics.has_both_classes(train.labels):
        return float("nan")
    probe = LinearProbe.fit(PrincipalAxes(train.features, device), train.labels, seed)
    return metrics.auroc(test.labels, probe.logits(test.features))


def _choose_thresholds(labels: np.ndarray, scores: np.ndarray, test_labels: np.ndarray,
                       config: EvaluationConfig) -> dict[str, float]:
    """``f1`` and ``f2`` for the prevalence of the test set, ``deployment`` for the best F1 at deployment."""
    return {name: metrics.choose_threshold(labels, scores, prevalence, beta)
            for name, (prevalence, beta) in threshold_rules(test_labels, config).items()}


def threshold_rules(test_labels: np.ndarray, config: EvaluationConfig) -> dict[str, tuple[float, float]]:
    """Of each threshold the prevalence, and the beta of the F score, that it is best for."""
    prevalence = _test_prevalence(test_labels, config)
    return {"f1": (prevalence, 1), "f2": (prevalence, 2), "deployment": (config.deployment_prevalence, 1)}


def _score(labels: np.ndarray, scores: np.ndarray, thresholds: dict[str, float],
           config: EvaluationConfig) -> dict[str, float]:
    found = {
        "auroc": metrics.auroc(labels, scores),
        "ap": metrics.average_precision(labels, scores),
        "fpr_at_95tpr": metrics.fpr_at_tpr(labels, scores, 0.95),
    }
    if np.isfinite(thresholds["f1"]):
        found["f1"] = metrics.f_beta(labels, scores, thresholds["f1"], beta=1)
        found["f2"] = metrics.f_beta(labels, scores, thresholds["f2"], beta=2)
        found["balanced_accuracy"] = metrics.balanced_accuracy(labels, scores, thresholds["f1"])
        found["precision_at_deployment"] = metrics.precision_at_prevalence(
            labels, scores, config.deployment_prevalence, thresholds["deployment"])
    return found


def _fixed_probe(data: EvalInput, seed: int, device: torch.device | str) -> dict[str, float]:
    fixed = data.fixed_labelled
    if not metrics.has_both_classes(fixed.labels):
        return {}
    probe = LinearProbe.fit(PrincipalAxes(fixed.features, device), fixed.labels, seed)
    scores = probe.logits(data.test.features)
    return {"probe_fixed/auroc": metrics.auroc(data.test.labels, scores),
            "probe_fixed/ap": metrics.average_precision(data.test.labels, scores)}


def _neighbors_and_detectors(data: EvalInput, config: EvaluationConfig, scores: dict[str, np.ndarray],
                             device: torch.device | str) -> dict[str, float]:
    """kNN and both detectors; fills their columns of ``scores``."""
    train, labels = data.train.features, data.test.labels
    if len(train) < 2:
        return {}
    queries = np.concatenate([data.validation.features, data.test.features])
    start = len(data.validation.labels)
    neighbors = cosine_neighbors(train, queries, max(config.knn_neighbors, detectors.NUM_NEIGHBORS), device)
    scores["score_detector_knn"] = detectors.knn_distance(neighbors)
    scores["score_detector_mahalanobis"] = detectors.mahalanobis(train, queries)
    found = {f"detector/{name}_auroc": metrics.auroc(labels, scores[f"score_detector_{name}"][start:])
             for name in ("knn", "mahalanobis")}
    if metrics.has_both_classes(data.train.labels):
        votes = knn_scores(neighbors, data.train.labels, config.knn_neighbors)[start:]
        found |= {"knn/auroc": metrics.auroc(labels, votes), "knn/ap": metrics.average_precision(labels, votes)}
    return found


def _sewer(data: EvalInput, axes: PrincipalAxes, C: float, gates: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """F2-CIW and F1-Normal of a multi-label probe at the binary probe's C, in two stages like Sewer-ML's benchmark.

    ``gates`` say which validation and test images the binary probe calls defective; no code fires on the others.
    Each code's threshold maximises its F2 on validation, where the code is as frequent as in the test set.
    """
    train, validation, test = data.train.codes, data.validation.codes, data.test.codes
    if train is None or validation is None or test is None or not metrics.has_both_classes(data.validation.labels):
        return {}
    probe = MultiLabelProbe.fit(axes, train, C)
    on_validation, on_test = probe.logits(data.validation.features), probe.logits(data.test.features)
    on_validation[~gates[0]] = -np.inf
    predicted = np.zeros(test.shape, bool)
    for code in range(test.shape[1]):
        labels = validation[:, code]
        threshold = metrics.choose_threshold(labels, on_validation[:, code], float(labels.mean()), beta=2)
        # A code that training or validation lacks never fires: its logit is -inf or its threshold NaN.
        fires = (on_test[:, code] >= threshold) & np.isfinite(on_test[:, code])
        predicted[:, code] = fires & gates[1]
    return {"sewer/f2_ciw": metrics.f2_ciw(test, predicted), "sewer/f1_normal": metrics.f1_normal(test, predicted)}


def _test_prevalence(labels: np.ndarray, config: EvaluationConfig) -> float:
    """The stated prevalence of the test set, or its own where it is left as it is."""
    return config.test_prevalence if config.test_prevalence is not None else float((labels == 1).mean())


def _check_finite(data: EvalInput) -> None:
    names = ("train", "validation", "test", "fixed_labelled", "level_free")
    parts = {name: getattr(data, name).features for name in names}
    parts |= {"embedding": data.level_free.embeddings, "view": data.views}
    for name, values in parts.items():
        if values is not None and not np.isfinite(values).all():
            raise TrainingError("diverged", f"{name} features contain NaN or inf; lower the learning rate")


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}
