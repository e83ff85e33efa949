"""Classification metrics of (labels, scores): pure functions.

``labels`` (N,) 0 normal, 1 defect; ``scores`` (N,) larger = more likely a defect; an image is called a defect
when ``score >= threshold``. What is undefined (one class only, nothing flagged) is NaN; ``evaluate`` leaves it out.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

SEWER_CODES = ("RB", "OB", "PF", "DE", "FS", "IS", "RO", "IN", "AF", "BE", "FO", "GR", "PH", "PB", "OS", "OP", "OK")
"""The 17 codes of Sewer-ML in CSV order."""
CLASS_IMPORTANCE = np.array([1.0, 0.5518, 0.2896, 0.1622, 0.6419, 0.1847, 0.3559, 0.3131, 0.0811, 0.2275, 0.2477,
                             0.0901, 0.4167, 0.4167, 0.9009, 0.3829, 0.4396])
"""Weights of the codes in F2-CIW (Haurum & Moeslund, CVPR 2021, table 2)."""


def has_both_classes(labels: np.ndarray) -> bool:
    """Whether anything can be told apart at all."""
    return len(labels) > 0 and bool((labels == 1).any() and (labels == 0).any())


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve, 0..1, chance 0.5; independent of prevalence."""
    return float(roc_auc_score(labels, scores)) if has_both_classes(labels) else float("nan")


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Sum of precision over recall steps, 0..1, chance = prevalence."""
    return float(average_precision_score(labels, scores)) if has_both_classes(labels) else float("nan")


def true_and_false_positive_rate(labels: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, float]:
    """(TPR, FPR) at a threshold, each 0..1; NaN where a class is missing."""
    if not has_both_classes(labels):
        return float("nan"), float("nan")
    flagged = scores >= threshold
    return float(flagged[labels == 1].mean()), float(flagged[labels == 0].mean())


def f_beta(labels: np.ndarray, scores: np.ndarray, threshold: float, beta: float = 1.0) -> float:
    """(1 + b²) P R / (b² P + R) of the defect class, 0..1; 0 when no defect is found."""
    flagged = scores >= threshold
    hits, misses = int((flagged & (labels == 1)).sum()), int((~flagged & (labels == 1)).sum())
    false_alarms = int((flagged & (labels == 0)).sum())
    if hits + misses == 0:
        return float("nan")
    square = beta * beta
    return (1 + square) * hits / ((1 + square) * hits + square * misses + false_alarms)


def balanced_accuracy(labels: np.ndarray, scores: np.ndarray, threshold: float) -> float:
    """(TPR + TNR) / 2, 0..1, chance 0.5."""
    tpr, fpr = true_and_false_positive_rate(labels, scores, threshold)
    return (tpr + 1 - fpr) / 2


def fpr_at_tpr(labels: np.ndarray, scores: np.ndarray, tpr: float = 0.95) -> float:
    """Smallest false positive rate at which at least ``tpr`` of the defects are found, 0..1."""
    if not has_both_classes(labels):
        return float("nan")
    false_rates, true_rates, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(false_rates[np.argmax(true_rates >= tpr)])


def precision_at_prevalence(labels: np.ndarray, scores: np.ndarray, prevalence: float, threshold: float) -> float:
    """π TPR / (π TPR + (1 - π) FPR): precision where a share π of images are defects. NaN when none is flagged."""
    tpr, fpr = true_and_false_positive_rate(labels, scores, threshold)
    flagged = prevalence * tpr + (1 - prevalence) * fpr
    return prevalence * tpr / flagged if flagged > 0 else float("nan")


def choose_threshold(labels: np.ndarray, scores: np.ndarray, prevalence: float, beta: float = 1.0) -> float:
    """The threshold that maximises F_beta on data reweighted to ``prevalence`` (0 < π < 1).

    It lies half-way between the scores on either side of the cut; the strictest one wins a tie. NaN for one class.
    """
    if not has_both_classes(labels):
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, positive = scores[order].astype(np.float64), labels[order] == 1
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    tpr = (np.cumsum(positive) / positive.sum())[last_of_tie]
    fpr = (np.cumsum(~positive) / (~positive).sum())[last_of_tie]
    square = beta * beta
    score = (1 + square) * prevalence * tpr / (square * prevalence + prevalence * tpr + (1 - prevalence) * fpr)
    cuts = ranked[last_of_tie]
    best = int(np.argmax(score))
    return float((cuts[best] + cuts[best + 1]) / 2) if best + 1 < len(cuts) else float(cuts[best])


def f2_ciw(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Σ w_c F2_c / Σ w_c over the 17 codes, (N, 17) booleans, 0..1; a code without hits counts 0 (also when absent).

    Haurum & Moeslund, CVPR 2021, section 5: F2 = 5PR / (4P + R), NaN becomes 0.
    """
    truth, predicted = truth.astype(bool), predicted.astype(bool)
    hits = (truth & predicted).sum(0)
    weighted = 5 * hits + 4 * (truth & ~predicted).sum(0) + (~truth & predicted).sum(0)
    return float(CLASS_IMPORTANCE @ (5 * hits / np.maximum(weighted, 1)) / CLASS_IMPORTANCE.sum())


def f1_normal(truth: np.ndarray, predicted: np.ndarray) -> float:
    """F1 of the implicit normal class (no code fires), (N, 17) booleans, 0..1; NaN becomes 0. Source as ``f2_ciw``."""
    normal, called_normal = ~truth.astype(bool).any(1), ~predicted.astype(bool).any(1)
    hits = (normal & called_normal).sum()
    return float(2 * hits / max(1, normal.sum() + called_normal.sum()))
