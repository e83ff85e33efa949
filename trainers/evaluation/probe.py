"""The linear probe: L2-logistic regression on standardised frozen features.

The objective is scikit-learn's (sum of log losses + ‖w‖² / 2C, intercept free). It is solved in the principal axes of
the training features, where the Hessian is nearly diagonal; the same axes serve all folds, all C and all class
weights, whose problems are solved together (``trainers.evaluation.logistic``) on the device. That is an exact change
of variables, also for N < D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from trainers.evaluation.logistic import LogisticProblems
from trainers.evaluation.metrics import has_both_classes

C_GRID = tuple(10.0**power for power in range(-4, 2))
"""Inverse L2 strengths tried, weakest fit first; a tie goes to the smaller C."""
FALLBACK_C = 1e-2
"""Where a class has fewer than 2 images, so that nothing can be cross-validated."""
NUM_FOLDS = 3
SETTLED, ROUGHLY_SETTLED = 1e-5, 1e-3
"""Tolerances of the scaled gradient; measured, 1e-3 settles AUROC to 1e-3 and 1e-5 the logits to 1e-2."""
ClassWeight = Literal["balanced"] | None


@final
class PrincipalAxes:
    """Standardised training features (N, D) in their principal axes: (N, r) coordinates, r = their rank."""

    def __init__(self, features: np.ndarray, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        rows = self._double(features)
        self._std, self._mean = torch.std_mean(rows, 0, correction=0)
        # A constant column is left alone, as by scikit-learn's StandardScaler, and what rounding makes of one too.
        constant = self._std <= 10 * torch.finfo(rows.dtype).eps * self._mean.abs()
        self._std = torch.where(constant, 1.0, self._std)
        standard = (rows - self._mean) / self._std
        num_rows, width = standard.shape
        tall = num_rows >= width
        energies, vectors = torch.linalg.eigh(standard.T @ standard if tall else standard @ standard.T)
        kept = energies > 1e-10 * energies[-1].clamp(min=1.0)  # directions without variance carry no logit
        self.energies = energies[kept]
        """(r,) squared singular values."""
        self.axes = vectors[:, kept] if tall else standard.T @ (vectors[:, kept] / self.energies.sqrt())
        self.coordinates = standard @ self.axes

    def in_features(self, solution: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, deviation and weights (D,) with which standardised features give the logits of a solution (r,)."""
        return self._mean, self._std, self.axes @ solution

    def transform(self, features: np.ndarray) -> Tensor:
        """Coordinates (M, r) of other features (M, D), standardised with the training statistics."""
        coordinates: Tensor = (self._double(features) - self._mean) / self._std @ self.axes
        return coordinates

    def _double(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self._device, torch.float64)


@dataclass(frozen=True, kw_only=True)
class ProbeWeights:
    """A probe that stands alone: logit = weight . (features - mean) / std + bias, all float64."""

    mean: np.ndarray
    """(D,) of the training features."""
    std: np.ndarray
    """(D,) > 0."""
    weight: np.ndarray
    """(D,)."""
    bias: float
    C: float


@final
@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """A fitted probe. Scores are logits; ``expit`` of them are probabilities at the training prevalence."""

    axes: PrincipalAxes
    solution: Tensor
    """(r + 1,) weights in the principal axes, then the intercept."""
    C: float

    @classmethod
    def fit(cls, axes: PrincipalAxes, labels: np.ndarray, seed: int, class_weight: ClassWeight = None,
            C: float | None = None) -> LinearProbe:
        """Fit on the features of ``axes``; ``C`` null = by stratified cross-validation on AUROC. Needs both classes."""
        return fit_probes(axes, labels, seed, [class_weight], C)[0]

    def weights(self) -> ProbeWeights:
        """The probe as plain numbers."""
        mean, std, weight = (values.cpu().numpy() for values in self.axes.in_features(self.solution[:-1]))
        return ProbeWeights(mean=mean, std=std, weight=weight, bias=float(self.solution[-1]), C=self.C)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(M,) logits of features (M, D)."""
        return _logits(self.axes.transform(features), self.solution).cpu().numpy()


@final
@dataclass(frozen=True, kw_only=True)
class MultiLabelProbe:
    """One probe per code, one against the rest, at one C."""

    axes: PrincipalAxes
    solutions: Tensor
    """(r + 1, L); NaN for a code that never, or always, occurs in the training set."""

    @classmethod
    def fit(cls, axes: PrincipalAxes, codes: np.ndarray, C: float) -> MultiLabelProbe:
        """``codes`` (N, L) of 0 and 1."""
        solutions = axes.energies.new_full((len(axes.energies) + 1, codes.shape[1]), float("nan"))
        fitted = [code for code in range(codes.shape[1]) if has_both_classes(codes[:, code].astype(np.int64))]
        if fitted:
            weights = np.ones((len(codes), len(fitted)))
            solutions[:, fitted] = _solve(axes, codes[:, fitted], weights, [C] * len(fitted), ROUGHLY_SETTLED)
        return cls(axes=axes, solutions=solutions)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(M, L) logits; -inf for a code that was not fitted."""
        found = _logits(self.axes.transform(features), self.solutions).cpu().numpy()
        return np.where(np.isnan(found), -np.inf, found)


def fit_probes(axes: PrincipalAxes, labels: np.ndarray, seed: int, class_weights: Sequence[ClassWeight],
               C: float | None = None) -> list[LinearProbe]:
    """One probe per class weight, all of their problems solved together; see ``LinearProbe.fit``."""
    if not has_both_classes(labels):
        raise ValueError("a probe needs images of both classes")
    weights = np.stack([sample_weights(labels, weight) for weight in class_weights], 1)
    strengths = [C] * len(class_weights) if C is not None else choose_c(axes, labels, weights, seed)
    solutions = _solve(axes, labels[:, None], weights, strengths, SETTLED)
    return [LinearProbe(axes=axes, solution=solution, C=chosen)
            for solution, chosen in zip(solutions.T, strengths, strict=True)]


def sample_weights(labels: np.ndarray, class_weight: ClassWeight) -> np.ndarray:
    """(N,) weights with mean 1: all equal, or ``balanced`` = N / (2 N_c) as in scikit-learn."""
    if class_weight is None:
        return np.ones(len(labels))
    share = float((labels == 1).mean())
    return np.where(labels == 1, 0.5 / share, 0.5 / (1 - share))


def choose_c(axes: PrincipalAxes, labels: np.ndarray, weights: np.ndarray, seed: int) -> list[float]:
    """For each column of ``weights`` (N, W) the C of ``C_GRID`` with the best mean AUROC over stratified folds: 3, or
    as many as the rarer class allows."""
    folds = min(NUM_FOLDS, int(labels.sum()), int((labels == 0).sum()))
    if folds < 2:
        return [FALLBACK_C] * weights.shape[1]
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32)
    held_out = np.stack([np.isin(np.arange(len(labels)), outside) for _, outside in splitter.split(labels, labels)])
    # Problems in the order (fold, weight, C).
    inside = np.where(held_out[:, :, None], 0.0, weights[None])
    by_problem = np.repeat(np.concatenate(list(inside), 1), len(C_GRID), 1)
    strengths = list(C_GRID) * (folds * weights.shape[1])
    solutions = _solve(axes, labels[:, None], by_problem, strengths, ROUGHLY_SETTLED)
    logits = _logits(axes.coordinates, solutions).cpu().numpy().reshape(len(labels), folds, -1)
    found = np.stack([_aurocs(labels[rows], logits[rows, fold]) for fold, rows in enumerate(held_out)])
    best = found.mean(0).reshape(weights.shape[1], len(C_GRID)).argmax(1)
    return [C_GRID[number] for number in best]


def _aurocs(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(P,) AUROC of each column of ``scores`` (N, P): the Mann-Whitney statistic, ties halved."""
    positive = labels == 1
    ranks = rankdata(scores, axis=0)[positive].sum(0)
    pairs = positive.sum() * (~positive).sum()
    aurocs: np.ndarray = (ranks - positive.sum() * (positive.sum() + 1) / 2) / pairs
    return aurocs


def _logits(coordinates: Tensor, solutions: Tensor) -> Tensor:
    return coordinates @ solutions[:-1] + solutions[-1]


def _solve(axes: PrincipalAxes, labels: np.ndarray, weights: np.ndarray, strengths: Sequence[float],
           tolerance: float) -> Tensor:
    """(r + 1, P) solutions; ``labels`` (N, P) or (N, 1), ``weights`` (N, P), one C per problem."""
    rows = axes.coordinates
    signs = rows.new_tensor(np.where(labels == 1, 1.0, -1.0)).expand(len(rows), len(strengths))
    problems = LogisticProblems(rows, axes.energies, signs, rows.new_tensor(weights), rows.new_tensor(strengths))
    return problems.solve(tolerance)
