"""The linear probe: L2-logistic regression on standardised frozen features.

The objective is scikit-learn's (sum of log losses + ‖w‖² / 2C, intercept free). It is solved in the principal axes
of the training features, each axis scaled by the curvature there, where L-BFGS needs 5 to 20 iterations; the same
axes serve all folds, all C and both class weights. That is an exact change of variables, also for N < D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from trainers.evaluation.metrics import auroc, has_both_classes

C_GRID = tuple(10.0**power for power in range(-4, 2))
"""Inverse L2 strengths tried, weakest fit first; a tie goes to the smaller C."""
FALLBACK_C = 1e-2
"""Where a class has fewer than 2 images, so that nothing can be cross-validated."""
NUM_FOLDS = 3
ClassWeight = Literal["balanced"] | None


@final
class PrincipalAxes:
    """Standardised training features (N, D) in their principal axes: (N, r) coordinates, r = their rank."""

    def __init__(self, features: np.ndarray) -> None:
        self._scaler = StandardScaler().fit(features.astype(np.float64))
        standard = self._scaler.transform(features.astype(np.float64))
        num_rows, width = standard.shape
        tall = num_rows >= width
        energies, vectors = np.linalg.eigh(standard.T @ standard if tall else standard @ standard.T)
        kept = energies > 1e-10 * max(1.0, energies[-1])  # directions without variance carry no logit
        self.energies = energies[kept]
        """(r,) squared singular values."""
        self.axes = vectors[:, kept] if tall else standard.T @ (vectors[:, kept] / np.sqrt(self.energies))
        self.coordinates = np.ascontiguousarray(standard @ self.axes)

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Coordinates (M, r) of other features (M, D), standardised with the training statistics."""
        coordinates: np.ndarray = self._scaler.transform(features.astype(np.float64)) @ self.axes
        return coordinates


@final
@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """A fitted probe. Scores are logits; ``expit`` of them are probabilities at the training prevalence."""

    axes: PrincipalAxes
    solution: np.ndarray
    """(r + 1,) weights in the principal axes, then the intercept."""
    C: float

    @classmethod
    def fit(cls, axes: PrincipalAxes, labels: np.ndarray, seed: int, class_weight: ClassWeight = None,
            C: float | None = None) -> LinearProbe:
        """Fit on the features of ``axes``; ``C`` null = by stratified cross-validation on AUROC. Needs both classes."""
        if not has_both_classes(labels):
            raise ValueError("a probe needs images of both classes")
        weights = sample_weights(labels, class_weight)
        chosen = C if C is not None else choose_c(axes, labels, weights, seed)
        solution = _solve(axes.coordinates, labels, weights, chosen, axes.energies)
        return cls(axes=axes, solution=solution, C=chosen)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(M,) logits of features (M, D)."""
        logits: np.ndarray = self.axes.transform(features) @ self.solution[:-1] + self.solution[-1]
        return logits


@final
@dataclass(frozen=True, kw_only=True)
class MultiLabelProbe:
    """One probe per code, one against the rest, at one C."""

    axes: PrincipalAxes
    solutions: np.ndarray
    """(r + 1, L); NaN for a code that never, or always, occurs in the training set."""

    @classmethod
    def fit(cls, axes: PrincipalAxes, codes: np.ndarray, C: float) -> MultiLabelProbe:
        """``codes`` (N, L) of 0 and 1."""
        solutions = np.full((axes.coordinates.shape[1] + 1, codes.shape[1]), np.nan)
        for code in range(codes.shape[1]):
            labels = codes[:, code].astype(np.int64)
            if has_both_classes(labels):
                solutions[:, code] = _solve(axes.coordinates, labels, np.ones(len(labels)), C, axes.energies,
                                            tolerance=1e-3)
        return cls(axes=axes, solutions=solutions)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(M, L) logits; -inf for a code that was not fitted."""
        found = self.axes.transform(features) @ self.solutions[:-1] + self.solutions[-1]
        return np.where(np.isnan(found), -np.inf, found)


def sample_weights(labels: np.ndarray, class_weight: ClassWeight) -> np.ndarray:
    """(N,) weights with mean 1: all equal, or ``balanced`` = N / (2 N_c) as in scikit-learn."""
    if class_weight is None:
        return np.ones(len(labels))
    share = float((labels == 1).mean())
    return np.where(labels == 1, 0.5 / share, 0.5 / (1 - share))


def choose_c(axes: PrincipalAxes, labels: np.ndarray, weights: np.ndarray, seed: int) -> float:
    """The C of ``C_GRID`` with the best mean AUROC over stratified folds: 3, or as many as the rarer class allows."""
    folds = min(NUM_FOLDS, int(labels.sum()), int((labels == 0).sum()))
    if folds < 2:
        return FALLBACK_C
    found = np.zeros((folds, len(C_GRID)))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32)
    for fold, (train, held_out) in enumerate(splitter.split(labels, labels)):
        inside, outside = axes.coordinates[train], axes.coordinates[held_out]
        energies = axes.energies * (len(train) / len(labels))
        solution = None
        for number, strength in enumerate(C_GRID):
            solution = _solve(inside, labels[train], weights[train], strength, energies, solution, tolerance=1e-3)
            found[fold, number] = auroc(labels[held_out], outside @ solution[:-1])
    return C_GRID[int(np.argmax(found.mean(0)))]


def _solve(coordinates: np.ndarray, labels: np.ndarray, weights: np.ndarray, C: float, energies: np.ndarray,
           start: np.ndarray | None = None, tolerance: float = 1e-5) -> np.ndarray:
    """Minimise Σ weight * log loss + ‖w‖² / 2C; returns (r + 1,), intercept last.

    ``tolerance`` bounds the scaled gradient: measured, 1e-3 settles AUROC to 1e-3, 1e-5 the logits to 1e-2.
    """
    signs = np.where(labels == 1, 1.0, -1.0)
    prevalence = float(weights @ (labels == 1) / weights.sum())
    curvature = prevalence * (1 - prevalence)
    # Coordinates in which the Hessian is near the identity: the preconditioner, not an approximation.
    scale = 1 / np.sqrt(np.append(energies * curvature * weights.mean() + 1 / C, weights.sum() * curvature))
    if start is None:
        start = np.append(np.zeros(len(energies)), np.log(prevalence / (1 - prevalence)))

    def objective(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        solution = scaled * scale
        margins = signs * (coordinates @ solution[:-1] + solution[-1])
        loss = weights @ np.logaddexp(0, -margins) + solution[:-1] @ solution[:-1] / (2 * C)
        pull = -weights * signs * expit(-margins)
        gradient = np.append(coordinates.T @ pull + solution[:-1] / C, pull.sum())
        return float(loss), gradient * scale

    options = {"maxiter": 500, "gtol": tolerance, "ftol": 1e-12}
    solution: np.ndarray = minimize(objective, start / scale, jac=True, method="L-BFGS-B", options=options).x * scale
    return solution
