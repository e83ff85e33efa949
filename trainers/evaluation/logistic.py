"""Many L2-logistic regressions on the same rows at once: batched L-BFGS (Nocedal & Wright 2006, algorithm 7.4).

All problems take their steps together, so an iteration is two matrix products, and every line search costs none: the
logits are linear along a direction. Shapes: N rows, r coordinates, P problems; everything float64.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

MEMORY = 8
"""Pairs of steps and gradient changes that stand for the Hessian."""
MOST_ITERATIONS = 500
_ARMIJO, _HALVINGS = 1e-4, 30


@final
class LogisticProblems:
    """Minimise Σ weight * log(1 + exp(-sign * logit)) + ‖w‖² / 2C for each of P problems, the intercept free."""

    def __init__(self, coordinates: Tensor, energies: Tensor, signs: Tensor, weights: Tensor,
                 strengths: Tensor) -> None:
        """``coordinates`` (N, r) in principal axes with squared singular values ``energies`` (r,); ``signs`` (N, P)
        of -1 and 1; ``weights`` (N, P), 0 = not in this problem; ``strengths`` (P,) the C of each.

        Every problem needs both signs among its weighted rows.
        """
        self.rows = F.pad(coordinates, (0, 1), value=1.0)
        self.signs, self.weights = signs, weights
        self.ridge = torch.zeros(self.rows.shape[1], len(strengths), dtype=coordinates.dtype, device=coordinates.device)
        self.ridge[:-1] = 1 / strengths
        total = weights.sum(0)
        prevalence = (weights * (signs > 0)).sum(0) / total
        curvature = prevalence * (1 - prevalence)
        # Coordinates in which every Hessian is near the identity: the preconditioner, not an approximation.
        self.scale = (torch.cat([torch.outer(energies, curvature * weights.mean(0)), (total * curvature)[None]])
                      + self.ridge).rsqrt()
        self.start = torch.zeros_like(self.scale)
        self.start[-1] = torch.logit(prevalence) / self.scale[-1]

    def solve(self, tolerance: float) -> Tensor:
        """(r + 1, P) weights, intercepts last. ``tolerance`` bounds the largest entry of each scaled gradient, unless
        rounding lets no step lower the loss any more or ``MOST_ITERATIONS`` are over; then it is the best so far.

        A problem that is solved stands still while the others go on.
        """
        x = self.start
        logits = self.rows @ (self.scale * x)
        loss, gradient = self._loss(x, logits), self._gradient(x, logits)
        history: list[tuple[Tensor, Tensor, Tensor]] = []
        active = gradient.abs().amax(0) > tolerance
        for _ in range(MOST_ITERATIONS):
            if not active.any():
                break
            direction = -_times_inverse_hessian(gradient, history)
            along = self.rows @ (self.scale * direction)
            length, loss = self._step_length(x, logits, loss, direction, along, gradient, active)
            step = length * direction
            x, logits, before = x + step, logits + length * along, gradient
            gradient = self._gradient(x, logits)
            history = [*history[1 - MEMORY:], _pair(step, gradient - before)]
            active = (gradient.abs().amax(0) > tolerance) & (length > 0)
        return self.scale * x

    def _loss(self, x: Tensor, logits: Tensor) -> Tensor:
        losses = (self.weights * F.softplus(-self.signs * logits)).sum(0)
        return losses + (self.ridge * (self.scale * x).square()).sum(0) / 2

    def _gradient(self, x: Tensor, logits: Tensor) -> Tensor:
        pull = -self.weights * self.signs * torch.sigmoid(-self.signs * logits)
        return self.scale * (self.rows.T @ pull + self.ridge * self.scale * x)

    def _step_length(self, x: Tensor, logits: Tensor, loss: Tensor, direction: Tensor, along: Tensor,
                     gradient: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """(P,) the first of 1, 1/2, 1/4, ... that lowers each loss enough (0: none does, or not active), and the losses
        there."""
        slope = (gradient * direction).sum(0)
        length = active.to(x.dtype)
        for _ in range(_HALVINGS):
            found = self._loss(x + length * direction, logits + length * along)
            enough = found <= loss + _ARMIJO * length * slope
            if enough.all():
                return length, found
            length = torch.where(enough, length, length / 2)
        return torch.where(enough, length, 0.0), torch.where(enough, found, loss)


def _pair(step: Tensor, change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Step, change of the gradient and 1 / (their product); a problem that stood still contributes nothing."""
    product = (step * change).sum(0)
    return step, change, torch.where(product > 0, 1 / product, 0.0)


def _times_inverse_hessian(gradient: Tensor, history: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The two-loop recursion, per problem."""
    q = gradient
    shares = []
    for step, change, rho in reversed(history):
        shares.append(rho * (step * q).sum(0))
        q = q - shares[-1] * change
    if history:
        step, change, rho = history[-1]
        q = q * torch.where(rho > 0, 1 / (rho * change.square().sum(0)), 1.0)
    for (step, change, rho), share in zip(history, reversed(shares), strict=True):
        q = q + step * (share - rho * (change * q).sum(0))
    return q
