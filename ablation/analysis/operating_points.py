"""Thresholds that are chosen on validation images, and what they give on the test set.

Conventions of ``ablation.analysis.detection``: an image is flagged when ``score >= threshold``; NaN = cannot be told.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import roc_curve

from ablation.analysis.statistics import percentiles
from trainers.evaluation.metrics import choose_threshold, has_both_classes


def clopper_pearson(hits: np.ndarray | float, n: np.ndarray | float, ci: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact interval of a share ``hits`` of ``n`` (any broadcastable shapes): (lo, hi), 0..1; NaN for n = 0.

    Clopper & Pearson, Biometrika 1934; equal to ``scipy.stats.binomtest(...).proportion_ci("exact")``, for arrays.
    """
    hits, n = np.broadcast_arrays(np.asarray(hits, float), np.asarray(n, float))
    tail = (1 - ci) / 2
    with np.errstate(invalid="ignore"):
        lo = np.where(hits == 0, 0.0, stats.beta.ppf(tail, hits, n - hits + 1))
        hi = np.where(hits == n, 1.0, stats.beta.ppf(1 - tail, hits + 1, n - hits))
    unknown = ~(n > 0) | np.isnan(hits)
    return np.where(unknown, math.nan, lo), np.where(unknown, math.nan, hi)


def budget_threshold(normals: np.ndarray, budget: float) -> float:
    """The smallest threshold whose false positive rate among ``normals`` (n,) is at most ``budget`` (0 < budget < 1).

    It lies just above a normal's score: ``score >= threshold`` means "higher than that normal". NaN for
    n < 1 / budget: not one false alarm fits the budget, and any threshold above all normals would do.
    """
    allowed = _allowed(len(normals), budget)
    if not allowed:
        return math.nan
    return float(np.nextafter(np.sort(normals.astype(float))[-allowed - 1], math.inf))


def bootstrap_thresholds(normals: np.ndarray, budget: float, num_boot: int, seed: int) -> np.ndarray:
    """(num_boot,) ``budget_threshold`` of resampled normals; empty where that is NaN.

    The (k + 1)-th largest of n draws with replacement has the rank floor(n U) with U ~ Beta(k + 1, n - k): the same
    law as resampling, without drawing n numbers each time.
    """
    n, allowed = len(normals), _allowed(len(normals), budget)
    if not allowed:
        return np.empty(0)
    ranks = (n * np.random.default_rng(seed).beta(allowed + 1, n - allowed, num_boot)).astype(int).clip(max=n - 1)
    falling = np.sort(normals.astype(float))[::-1]
    above: np.ndarray = np.nextafter(falling[ranks], math.inf)
    return above


def _allowed(n: int, budget: float) -> int:
    """False alarms that fit the budget."""
    if not 0 < budget < 1:
        raise ValueError(f"the budget of false alarms must lie between 0 and 1, got {budget}")
    return math.floor(budget * n + 1e-9)  # 0.29 * 100 is 28.999...


def _rate(scores: np.ndarray, thresholds: np.ndarray | float) -> np.ndarray:
    """Share of ``scores`` at or above each threshold; NaN without scores or threshold."""
    if not len(scores):
        return np.full(np.shape(thresholds), math.nan)
    below = np.searchsorted(np.sort(scores.astype(float)), thresholds, side="left")
    return np.where(np.isnan(thresholds), math.nan, (len(scores) - below) / len(scores))


def budget_table(validation_normals: np.ndarray, normals: np.ndarray, defects: np.ndarray, *, budget: float = 0.05,
                 ci: float = 0.95, num_boot: int = 2000, seed: int = 0) -> pd.DataFrame:
    """One row: the budget's threshold from the scores of validation normals alone, and its rates on test scores.

    Columns: budget, n_validation, threshold, validation_fpr; then fpr, tpr with ``_lo``, ``_hi`` (Clopper-Pearson,
    the threshold taken as given) and threshold, fpr, tpr with ``_spread_lo``, ``_spread_hi`` (percentiles over
    resampled validation normals, the test images taken as given; somewhat narrow, 92 % for 95 % at 200 normals);
    n_normals, n_defects, note. With fewer validation normals than 1 / budget every rate is NaN and ``note`` says so.
    """
    threshold = budget_threshold(validation_normals, budget)
    samples = bootstrap_thresholds(validation_normals, budget, num_boot, seed)
    row: dict[str, object] = {"budget": budget, "n_validation": len(validation_normals), "threshold": threshold,
                              "validation_fpr": float(_rate(validation_normals, threshold))}
    row["threshold_spread_lo"], row["threshold_spread_hi"] = percentiles(samples, ci)
    for name, scores in (("fpr", normals), ("tpr", defects)):
        rate = float(_rate(scores, threshold))
        lo, hi = clopper_pearson(np.rint(rate * len(scores)), len(scores), ci)
        row |= {name: rate, f"{name}_lo": float(lo), f"{name}_hi": float(hi)}
        row[f"{name}_spread_lo"], row[f"{name}_spread_hi"] = percentiles(_rate(scores, samples), ci)
    note = ""
    if math.isnan(threshold):
        note = (f"{len(validation_normals)} validation normals are too few for a budget of {100 * budget:.4g} %: "
                f"{math.ceil(1 / budget - 1e-9)} or more are needed")
    return pd.DataFrame([row | {"n_normals": len(normals), "n_defects": len(defects), "note": note}])


def cost_threshold(labels: np.ndarray, scores: np.ndarray, prevalence: float, cost_miss: float,
                   cost_alarm: float) -> float:
    """The threshold of least expected cost at ``prevalence``, half-way between neighbouring scores; the strictest
    wins a tie, infinity flags nothing. NaN for one class."""
    if not has_both_classes(labels):
        return math.nan
    fpr, tpr, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    costs = prevalence * cost_miss * (1 - tpr) + (1 - prevalence) * cost_alarm * fpr
    best = int(np.argmin(np.round(costs, 12)))
    return float((thresholds[best] + thresholds[min(best + 1, len(thresholds) - 1)]) / 2)


def cost_table(validation: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], *,
               prevalence: float = 0.02, cost_miss: float = 10.0, cost_alarm: float = 1.0, budget: float = 0.05,
               ci: float = 0.95) -> pd.DataFrame:
    """Expected cost per 1,000 images at ``prevalence`` under thresholds that validation chose; both (labels, scores).

    Rows ``rule``: f1, f2 (best F at that prevalence), budget (of false alarms), cost (least cost), flag all, flag
    none. Columns: rule, threshold, tpr, fpr, missed and false_alarms (per 1,000 images), cost, lo, hi, n_validation,
    n_normals, n_defects. Cost = 1,000 (π c_FN (1 - TPR) + (1 - π) c_FP FPR); its interval adds those of both rates
    by MOVER (Zou & Donner, Statistics in Medicine 2008). Raises ``ValueError`` for a prevalence or budget outside
    (0, 1) or a cost that is not positive.
    """
    if not 0 < prevalence < 1 or min(cost_miss, cost_alarm) <= 0:
        raise ValueError(f"need 0 < prevalence < 1 and positive costs, got {prevalence}, {cost_miss}, {cost_alarm}")
    (labels, scores), (test_labels, test_scores) = validation, test
    normals, defects = test_scores[test_labels == 0], test_scores[test_labels == 1]
    chosen = {"f1": choose_threshold(labels, scores, prevalence, beta=1),
              "f2": choose_threshold(labels, scores, prevalence, beta=2),
              "budget": budget_threshold(scores[labels == 0], budget),
              "cost": cost_threshold(labels, scores, prevalence, cost_miss, cost_alarm),
              "flag all": -math.inf, "flag none": math.inf}
    price_miss, price_alarm = 1000 * prevalence * cost_miss, 1000 * (1 - prevalence) * cost_alarm
    rows = []
    for rule, threshold in chosen.items():
        tpr, fpr = float(_rate(defects, threshold)), float(_rate(normals, threshold))
        cost = price_miss * (1 - tpr) + price_alarm * fpr
        down, up = (0.0, 0.0) if math.isinf(threshold) else _mover(
            [(price_miss, (1 - tpr) * len(defects), len(defects)), (price_alarm, fpr * len(normals), len(normals))], ci)
        used = len(scores) if not rule.startswith("flag") else 0
        rows.append({"rule": rule, "threshold": threshold, "tpr": tpr, "fpr": fpr,
                     "missed": 1000 * prevalence * (1 - tpr), "false_alarms": 1000 * (1 - prevalence) * fpr,
                     "cost": cost, "lo": cost - down, "hi": cost + up,
                     "n_validation": int((labels == 0).sum()) if rule == "budget" else used,
                     "n_normals": len(normals), "n_defects": len(defects)})
    return pd.DataFrame(rows)


def _mover(parts: list[tuple[float, float, int]], ci: float) -> tuple[float, float]:
    """How far the interval of a sum of weight * count / n reaches below and above it."""
    below = above = 0.0
    for weight, count, n in parts:
        lo, hi = clopper_pearson(np.rint(count), n, ci)
        rate = count / n if n else math.nan
        below, above = below + float(weight * (rate - lo)) ** 2, above + float(weight * (hi - rate)) ** 2
    return math.sqrt(below), math.sqrt(above)
