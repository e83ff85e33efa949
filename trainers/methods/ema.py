"""Target networks that follow the online network as an exponential moving average (BYOL, DINO)."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import nn

from trainers.records import Progress

M = TypeVar("M", bound=nn.Module)


def frozen_copy(module: M) -> M:
    """A copy without gradients; its weights are part of the state dict of whoever holds it."""
    return copy.deepcopy(module).requires_grad_(False)


def ema_momentum(start: float | None, progress: Progress) -> float:
    """Cosine per step from ``start`` to 1: m = 1 - (1 - start) (cos(pi k / K) + 1) / 2.

    ``start`` None: 0.99 (small data, BYOL's 100-epoch value), lowered to 1 - 16 / K, at least 0.9, on budgets of
    K < 1,600 steps: with 0.99 over 150 steps half of the target would still be the random initialisation.
    """
    if start is None:
        start = min(0.99, max(0.9, 1 - 16 / max(1, progress.total_steps)))
    return 1 - (1 - start) * (math.cos(math.pi * progress.fraction) + 1) / 2


@torch.no_grad()
def ema_update(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """target <- momentum * target + (1 - momentum) * online, parameters only.

    Buffers are left alone, as in the authors' code: the target runs in train mode and so keeps running statistics
    of its own forward passes, which are those of its own weights.
    """
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1 - momentum)
