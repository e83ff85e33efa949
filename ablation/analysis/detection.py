"""What a detector is worth where it will be used: rates, precision and cost at a deployment prevalence, with intervals.

``labels`` (N,) 0 normal, 1 defect; ``scores`` (N,) finite, larger = more likely a defect; an image is flagged when
``score >= threshold``. Rates of the two classes do not depend on prevalence: a test set of any mixture is reweighted
to the deployment prevalence ``prevalence`` (0 < π < 1, else ``ValueError``). NaN means: cannot be told from these
images. Intervals of rates are Clopper and Pearson's (1934), which hold their level for every n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score, roc_curve

from ablation.analysis import statistics
from ablation.analysis.operating_points import budget_table, clopper_pearson
from trainers.evaluation.metrics import has_both_classes

CI, BUDGET, PREVALENCE = 0.95, 0.05, 0.02
QUANTITIES = ("auroc", "ap", "tpr_at_budget", "fpr_at_budget")
_CURVE_POINTS = 400
_CHUNK = 2**21  # bootstrap weights in memory at once


@dataclass(frozen=True)
class Sample:
    """The labelled, scored images of one split."""

    labels: np.ndarray
    """(N,) int64, 0 or 1."""
    scores: np.ndarray
    """(N,) float64, finite."""
    types: np.ndarray
    """(N,) object: defect type as text, "" for normals."""

    @property
    def normals(self) -> np.ndarray:
        return np.asarray(self.scores[self.labels == 0])

    @property
    def defects(self) -> np.ndarray:
        return np.asarray(self.scores[self.labels == 1])


@dataclass(frozen=True)
class Estimate:
    """A value with its interval and the numbers of images behind it."""

    value: float
    lo: float
    hi: float
    n_normals: int
    n_defects: int


def take(scores: pd.DataFrame, column: str, split: str) -> Sample:
    """Rows of ``StudyResults.scores`` of one split that have a label and a finite ``column``; empty without any."""
    rows = scores[scores["split"].eq(split) & scores["label"].isin([0, 1])]
    values = rows[column].to_numpy(float, na_value=math.nan) if column in rows else np.full(len(rows), math.nan)
    known = np.isfinite(values)
    types = rows["defect_type"].fillna("").astype(str).to_numpy(object)
    return Sample(rows["label"].to_numpy(np.int64)[known], values[known], types[known])


def refuse_prevalence(prevalence: float) -> None:
    """Raises ``ValueError`` unless 0 < prevalence < 1."""
    if not 0 < prevalence < 1:
        raise ValueError(f"the deployment prevalence must lie between 0 and 1, got {prevalence}")


def precision_at(tpr: np.ndarray, fpr: np.ndarray, prevalence: float) -> np.ndarray:
    """π TPR / (π TPR + (1 - π) FPR) of rates (any equal shape, 0..1): Bayes' rule. NaN where nothing is flagged."""
    refuse_prevalence(prevalence)
    hits, alarms = prevalence * np.asarray(tpr, float), (1 - prevalence) * np.asarray(fpr, float)
    flagged = hits + alarms
    return np.asarray(np.divide(hits, flagged, out=np.full(np.shape(flagged), math.nan), where=flagged > 0))


def curve(labels: np.ndarray, scores: np.ndarray, prevalence: float, *, ci: float = CI,
          most: int = _CURVE_POINTS) -> pd.DataFrame:
    """ROC and precision-recall points, strictest threshold first; empty where a class is missing.

    Columns: threshold, fpr, fpr_lo, fpr_hi, tpr, tpr_lo, tpr_hi, precision, precision_lo, precision_hi, prevalence,
    n_normals, n_defects. Intervals hold point by point, not for the whole curve at once. That of precision is the
    range over both rates' intervals at level (1 + ci) / 2 (Bonferroni), so it errs on the wide side. About ``most``
    points are kept, evenly along the curve, ends included.
    """
    refuse_prevalence(prevalence)
    names = ["threshold", *(f"{rate}{end}" for rate in ("fpr", "tpr", "precision") for end in ("", "_lo", "_hi")),
             "prevalence", "n_normals", "n_defects"]
    if not has_both_classes(labels):
        return pd.DataFrame(columns=names, dtype=float)
    fpr, tpr, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    kept = np.unique(np.searchsorted(fpr + tpr, np.linspace(0, 2, most)).clip(max=len(fpr) - 1))
    fpr, tpr, thresholds = fpr[kept], tpr[kept], thresholds[kept]
    normals, defects = int((labels == 0).sum()), int((labels == 1).sum())
    alarms, hits = np.rint(fpr * normals), np.rint(tpr * defects)
    columns = {"threshold": thresholds, "fpr": fpr, "tpr": tpr, "precision": precision_at(tpr, fpr, prevalence)}
    columns["fpr_lo"], columns["fpr_hi"] = clopper_pearson(alarms, normals, ci)
    columns["tpr_lo"], columns["tpr_hi"] = clopper_pearson(hits, defects, ci)
    wide = (1 + ci) / 2
    (fpr_lo, fpr_hi), (tpr_lo, tpr_hi) = clopper_pearson(alarms, normals, wide), clopper_pearson(hits, defects, wide)
    columns["precision_lo"] = precision_at(tpr_lo, fpr_hi, prevalence)
    columns["precision_hi"] = precision_at(tpr_hi, fpr_lo, prevalence)
    frame = pd.DataFrame(columns).assign(prevalence=prevalence, n_normals=normals, n_defects=defects)
    return frame[names]


def auroc(labels: np.ndarray, scores: np.ndarray, ci: float = CI) -> Estimate:
    """Area under the ROC curve (0..1, ties half) with DeLong's interval on the logit scale.

    Variance by placements (DeLong et al., Biometrics 1988), from midranks in O(N log N) (Sun & Xu, IEEE Signal
    Processing Letters 2014); the logit keeps the interval inside 0..1 (Pepe 2003, section 5.2). The value is NaN for
    one class; the interval is NaN below 2 images of a class or without an error (AUROC 0 or 1): no variance there.
    """
    normals, defects = scores[labels == 0], scores[labels == 1]
    n, m = len(normals), len(defects)
    if not n or not m:
        return Estimate(math.nan, math.nan, math.nan, n, m)
    ranks = stats.rankdata(np.concatenate([defects, normals]))
    above = (ranks[:m] - stats.rankdata(defects)) / n
    below = 1 - (ranks[m:] - stats.rankdata(normals)) / m
    area = float(above.mean())
    if min(n, m) < 2 or not 0 < area < 1:
        return Estimate(area, math.nan, math.nan, n, m)
    spread = math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n) / (area * (1 - area))
    half = float(stats.norm.ppf((1 + ci) / 2)) * spread
    lo, hi = (float(expit(logit(area) + side * half)) for side in (-1, 1))
    return Estimate(area, lo, hi, n, m)


def average_precision(labels: np.ndarray, scores: np.ndarray, prevalence: float) -> float:
    """Sum of precision at π over recall steps, 0..1, chance level π; NaN for one class."""
    refuse_prevalence(prevalence)
    if not has_both_classes(labels):
        return math.nan
    defect = labels == 1
    weights = np.where(defect, prevalence / defect.sum(), (1 - prevalence) / (~defect).sum())
    return float(average_precision_score(labels, scores, sample_weight=weights))


def average_precision_interval(labels: np.ndarray, scores: np.ndarray, prevalence: float, *, ci: float = CI,
                               num_boot: int = 500, seed: int = 0) -> Estimate:
    """``average_precision`` with the middle ``ci`` of its smoothed Bayesian bootstrap; no interval below 2 of a class.

    Each draw gives the defects Dirichlet weights (Rubin, Annals of Statistics 1981) and spreads the normals' mass over
    the n + 1 gaps between them (Banks, Biometrika 1988), so that the rate above the highest normal is not taken for 0:
    where π is small, AP hangs on it. The plain bootstrap misses the true AP half of the time there (tests). The step
    sum itself is then too high on average; the interval is widened to hold it where need be.
    """
    above, normals = np.sort(scores[labels == 1])[::-1], np.sort(scores[labels == 0])
    n, m = len(normals), len(above)
    value = average_precision(labels, scores, prevalence)
    if min(n, m) < 2:
        return Estimate(value, math.nan, math.nan, n, m)
    alarms = n - np.searchsorted(normals, above, side="left")
    last_of_tie = m - 1 - np.searchsorted(above[::-1], above, side="left")
    rng, samples = np.random.default_rng(seed), []
    rows = max(1, _CHUNK // len(scores))
    for start in range(0, num_boot, rows):
        count = min(rows, num_boot - start)
        weights = _dirichlet(count, m, rng)
        gaps = np.pad(_dirichlet(count, n + 1, rng).cumsum(1), ((0, 0), (1, 0)))
        into = rng.random((count, 1))
        fpr = (1 - into) * gaps[:, alarms] + into * gaps[:, alarms + 1]
        precision = precision_at(weights.cumsum(1)[:, last_of_tie], fpr, prevalence)
        samples.append((weights * precision).sum(1))
    lo, hi = statistics.percentiles(np.concatenate(samples), ci)
    return Estimate(value, min(lo, value), max(hi, value), n, m)


def _dirichlet(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """(count, size) uniform weights on the simplex."""
    draws = rng.standard_exponential((count, size))
    return np.asarray(draws / draws.sum(1, keepdims=True))


def recall_by_type(sample: Sample, threshold: float, ci: float = CI) -> pd.DataFrame:
    """Columns type, n, found, recall, lo, hi; most frequent first, then by name. ``threshold`` NaN: recall NaN.

    A type text with several codes ("RB+OB", "RB,OB") counts for each of them; this project's Sewer-ML reader names
    one code per image, the most important. Defects without a type are named "unnamed".
    """
    defect = sample.labels == 1
    rows = [(name, score >= threshold) for score, text in zip(sample.scores[defect], sample.types[defect], strict=True)
            for name in sorted({part.strip() for part in str(text).replace("+", ",").split(",")} - {""}) or ["unnamed"]]
    grouped = pd.DataFrame(rows, columns=["type", "hit"]).astype({"hit": bool}).groupby("type")["hit"]
    frame = grouped.agg(n="size", found="sum").reset_index().sort_values(["n", "type"], ascending=[False, True])
    frame = frame.reset_index(drop=True).astype({"n": int, "found": float})
    if math.isnan(threshold):
        frame["found"] = math.nan
    frame["recall"] = frame["found"] / frame["n"]
    frame["lo"], frame["hi"] = clopper_pearson(frame["found"].to_numpy(float), frame["n"].to_numpy(float), ci)
    return frame


def trial_summary(scores: pd.DataFrame, column: str, *, prevalence: float = PREVALENCE, budget: float = BUDGET,
                  ci: float = CI, seed: int = 0) -> pd.DataFrame:
    """One row per quantity of ``QUANTITIES`` on the test split: quantity, value, lo, hi, chance, n_normals, n_defects,
    note. The interval is that of the test images; the threshold of the budget counts as given."""
    test = take(scores, column, "test")
    area = auroc(test.labels, test.scores, ci)
    precision = average_precision_interval(test.labels, test.scores, prevalence, ci=ci, seed=seed)
    at = budget_table(take(scores, column, "validation").normals, test.normals, test.defects, budget=budget, ci=ci,
                      seed=seed).iloc[0]
    rates = [Estimate(at[name], at[f"{name}_lo"], at[f"{name}_hi"], area.n_normals, area.n_defects)
             for name in ("tpr", "fpr")]
    rows = [{"quantity": name, **vars(found), "chance": chance, "note": note} for name, found, chance, note in zip(
        QUANTITIES, [area, precision, *rates], (0.5, prevalence, budget, budget), ("", "", at["note"], at["note"]),
        strict=True)]
    return pd.DataFrame(rows)[["quantity", "value", "lo", "hi", "chance", "n_normals", "n_defects", "note"]]


def over_seeds(trials: Sequence[pd.DataFrame], column: str, *, prevalence: float = PREVALENCE, budget: float = BUDGET,
               ci: float = CI) -> pd.DataFrame:
    """One row per quantity of ``QUANTITIES``: quantity, value (mean over seeds), lo, hi (Student t), n, planned.

    ``trials``: the score frame of each seed of one cell. n counts the seeds that have a number; fewer than 3 give no
    interval. Seeds share the test images: the interval says how much training moves the score, not how much another
    test set would.
    """
    found = np.array([_values(scores, column, prevalence, budget) for scores in trials]).reshape(-1, len(QUANTITIES))
    rows = []
    for name, values in zip(QUANTITIES, found.T, strict=True):
        known = values[np.isfinite(values)]
        lo, hi = statistics.interval(known, np.zeros(len(known)), "mean", ci, 0, 0)
        value = float(known.mean()) if len(known) else math.nan
        rows.append({"quantity": name, "value": value, "lo": lo, "hi": hi, "n": len(known), "planned": len(trials)})
    return pd.DataFrame(rows)


def _values(scores: pd.DataFrame, column: str, prevalence: float, budget: float) -> list[float]:
    test = take(scores, column, "test")
    at = budget_table(take(scores, column, "validation").normals, test.normals, test.defects, budget=budget,
                      num_boot=0).iloc[0]
    precision = average_precision(test.labels, test.scores, prevalence)
    return [auroc(test.labels, test.scores).value, precision, float(at["tpr"]), float(at["fpr"])]
