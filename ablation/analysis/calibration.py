"""Do a probe's probabilities mean what they say at the prevalence where it will be used?

``probabilities`` (N,) in 0..1 at the training prevalence; ``labels`` (N,) 0 normal, 1 defect. Test images are weighted
to the deployment prevalence π: each defect π / n_defects, each normal (1 - π) / n_normals. One class only gives NaN,
never an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from ablation.analysis.detection import CI, PREVALENCE, refuse_prevalence, take
from ablation.analysis.operating_points import clopper_pearson
from ablation.analysis.statistics import percentiles
from trainers.evaluation.metrics import has_both_classes

BINS = 10
STAGES = ("as trained", "calibrated")
_EDGE = 1e-7
"""Stored probabilities are float32: nearer to 0 or 1 than this the logit is rounding."""


@dataclass(frozen=True)
class Platt:
    """logit p' = slope logit p + offset, at the prevalence of the images it was fitted on."""

    slope: float
    offset: float
    prevalence: float
    """Share of defects among them."""
    n: int

    def at(self, probabilities: np.ndarray, prevalence: float) -> np.ndarray:
        """(N,) calibrated probabilities where a share ``prevalence`` (0 < π < 1) of images are defects.

        The log odds move by logit π - logit π_fitted (Saerens et al., Neural Computation 2002: only the prior
        differs); NaN if nothing could be fitted.
        """
        refuse_prevalence(prevalence)
        shift = logit(prevalence) - logit(self.prevalence) if 0 < self.prevalence < 1 else math.nan
        moved: np.ndarray = expit(self.slope * _logit(probabilities) + self.offset + shift)
        return moved


def fit_platt(labels: np.ndarray, probabilities: np.ndarray) -> Platt:
    """Platt scaling on validation images; NaN slope and offset for one class.

    Targets (n₁ + 1) / (n₁ + 2) and 1 / (n₀ + 2) instead of 1 and 0 keep it finite where the classes do not overlap
    (Platt 1999; Lin, Lin & Weng, Machine Learning 2007).
    """
    n, defects = len(labels), int((labels == 1).sum())
    if not has_both_classes(labels):
        return Platt(math.nan, math.nan, defects / n if n else math.nan, n)
    target = np.where(labels == 1, (defects + 1) / (defects + 2), 1 / (n - defects + 2))
    x = np.tile(_logit(probabilities), 2)[:, None]
    model = LogisticRegression(C=math.inf, tol=1e-8, max_iter=1000)
    model.fit(x, np.repeat([1, 0], n), sample_weight=np.concatenate([target, 1 - target]))
    return Platt(float(model.coef_[0, 0]), float(model.intercept_[0]), defects / n, n)


def reliability(labels: np.ndarray, probabilities: np.ndarray, prevalence: float, *, bins: int = BINS,
                ci: float = CI) -> pd.DataFrame:
    """One row per bin of about equally many test images, by rising probability; empty where a class is missing.

    Columns: bin, low, high (probabilities), n, n_defects, weight (share of the images at ``prevalence``), predicted
    (weighted mean), observed (share of defects at ``prevalence``), lo, hi (Clopper-Pearson of the bin's own share,
    its odds moved to ``prevalence``), prevalence. Equal probabilities share a bin.
    """
    refuse_prevalence(prevalence)
    names = ["bin", "low", "high", "n", "n_defects", "weight", "predicted", "observed", "lo", "hi", "prevalence"]
    known = np.isfinite(probabilities)
    labels, probabilities = labels[known], probabilities[known]
    if not has_both_classes(labels):
        return pd.DataFrame(columns=names, dtype=float)
    number, weights = _bins(probabilities, bins), _weights(labels, prevalence)
    rows = []
    for name in range(number.max() + 1):
        here = number == name
        n, defects, weight = int(here.sum()), int((labels[here] == 1).sum()), float(weights[here].sum())
        lo, hi = clopper_pearson(defects, n, ci)
        rows.append({"bin": name, "low": probabilities[here].min(), "high": probabilities[here].max(), "n": n,
                     "n_defects": defects, "weight": weight,
                     "predicted": float(weights[here] @ probabilities[here]) / weight,
                     "observed": float(weights[here & (labels == 1)].sum()) / weight,
                     "lo": _moved(float(lo), labels, prevalence), "hi": _moved(float(hi), labels, prevalence)})
    return pd.DataFrame(rows).assign(prevalence=prevalence)[names]


def errors(labels: np.ndarray, probabilities: np.ndarray, prevalence: float, *, bins: int = BINS, ci: float = CI,
           num_boot: int = 500, seed: int = 0) -> pd.DataFrame:
    """Rows ``error`` brier and ece at ``prevalence``: error, value, lo, hi, chance, n_normals, n_defects.

    Brier score = weighted mean of (p - y)² (Brier 1950); chance π (1 - π) is that of always saying π. Expected
    calibration error = Σ weight |predicted - observed| over the bins of ``reliability`` (Naeini et al. 2015); it is
    above 0 by chance alone for few images. Intervals: percentile bootstrap of normals and defects apart, bins fixed.
    """
    refuse_prevalence(prevalence)
    known = np.isfinite(probabilities)
    labels, probabilities = labels[known], probabilities[known]
    normals, defects = int((labels == 0).sum()), int((labels == 1).sum())
    found = {"brier": (math.nan, math.nan, math.nan), "ece": (math.nan, math.nan, math.nan)}
    if normals and defects:
        number, weights = _bins(probabilities, bins), _weights(labels, prevalence)
        # Both errors are sums over images: bins hold Σ w (p - y), and the Brier score is Σ w (p - y)².
        gap = probabilities - labels
        rng, places = np.random.default_rng(seed), np.eye(number.max() + 1)[number] * gap[:, None]
        draws = np.ones((num_boot + 1, len(labels)), np.float32)
        for member, size in ((labels == 1, defects), (labels == 0, normals)):
            draws[1:, member] = rng.multinomial(size, np.full(size, 1 / size), num_boot)
        draws *= weights.astype(np.float32)
        brier, ece = draws @ gap**2, np.abs(draws @ places).sum(1)
        enough = min(normals, defects) > 1
        found = {name: (float(values[0]), *(percentiles(values[1:], ci) if enough else (math.nan, math.nan)))
                 for name, values in (("brier", brier), ("ece", ece))}
    chance = {"brier": prevalence * (1 - prevalence), "ece": 0.0}
    return pd.DataFrame([{"error": name, "value": value, "lo": lo, "hi": hi, "chance": chance[name],
                          "n_normals": normals, "n_defects": defects} for name, (value, lo, hi) in found.items()])


def trial_calibration(scores: pd.DataFrame, column: str = "score_probe", *, prevalence: float = PREVALENCE,
                      bins: int = BINS, ci: float = CI, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(``reliability``, ``errors``) of one trial's test images, each with a first column ``stage``: the probabilities
    as trained, and after Platt scaling on validation and the shift to ``prevalence``.

    Raises ``ValueError`` for a column that holds no probabilities.
    """
    validation, test = take(scores, column, "validation"), take(scores, column, "test")
    for values in (validation.scores, test.scores):
        if len(values) and not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(f"{column} holds no probabilities")
    moved = fit_platt(validation.labels, validation.scores).at(test.scores, prevalence)
    tables: list[pd.DataFrame] = []
    numbers: list[pd.DataFrame] = []
    for stage, values in zip(STAGES, (test.scores, moved), strict=True):
        table = reliability(test.labels, values, prevalence, bins=bins, ci=ci)
        number = errors(test.labels, values, prevalence, bins=bins, ci=ci, seed=seed)
        for frame, kept in ((table, tables), (number, numbers)):
            frame.insert(0, "stage", stage)
            kept.append(frame)
    filled = [table for table in tables if len(table)] or tables[:1]
    return pd.concat(filled, ignore_index=True), pd.concat(numbers, ignore_index=True)


def _logit(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(logit(np.clip(np.asarray(probabilities, float), _EDGE, 1 - _EDGE)))


def _weights(labels: np.ndarray, prevalence: float) -> np.ndarray:
    defect = labels == 1
    return np.asarray(np.where(defect, prevalence / defect.sum(), (1 - prevalence) / (~defect).sum()))


def _bins(probabilities: np.ndarray, bins: int) -> np.ndarray:
    """(N,) bin numbers 0, 1, … without gaps, split at quantiles."""
    cuts = np.unique(np.quantile(probabilities, np.arange(1, bins) / bins))
    return np.unique(np.searchsorted(cuts, probabilities, side="right"), return_inverse=True)[1]


def _moved(share: float, labels: np.ndarray, prevalence: float) -> float:
    """A share of defects in the test set's mixture, as a share at ``prevalence``."""
    hits = share * prevalence / (labels == 1).mean()
    rest = (1 - share) * (1 - prevalence) / (labels == 0).mean()
    return float(hits / (hits + rest))
