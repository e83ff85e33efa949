"""Signs that a representation has collapsed: a good loss and no information.

Three detectors, because each misses what the others see: constant features (BYOL without its predictor), a teacher that
says the same of every image (DINO without centring or sharpening: dinov2#407 sat at ln 4096), one direction left.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.distributed import all_reduce_mean

MIN_FEATURE_STD = 0.02
"""Spread of unit features, 1 = all over the sphere. A short-trained ViT may stand at 0.04 with a useful probe, because
its mean-pooled tokens share a large mean (docs/results/learning.md); one that had collapsed stood at 0.018."""
TEACHER_RANGE = (0.01, 0.999)
"""Entropy of the teacher's assignments as a share of ln K: below, all images go to one prototype; above, to all."""
MIN_RANKME = 1.01
"""Rank-1 features have RankMe 1.0001 (ecosystem.md, section 4). Uncentred: healthy ViT features may lie at 1.5."""


@torch.no_grad()
def feature_std(features: Tensor) -> Tensor:
    """sqrt(D) x mean deviation of L2-normalised features (B, D) over the joint batch: 0 collapsed, 1 isotropic."""
    unit = F.normalize(features.float(), dim=1).double()
    mean, square = all_reduce_mean(torch.stack([unit.mean(0), unit.square().mean(0)]))
    spread: Tensor = (square - mean.square()).clamp(min=0).sqrt().mean() * unit.shape[1] ** 0.5
    return spread


@torch.no_grad()
def entropy_share(logits: Tensor) -> Tensor:
    """Mean entropy of softmax(logits) over the last axis (…, K), as a share of its maximum ln K."""
    log_probabilities = F.log_softmax(logits, dim=-1)
    return -(log_probabilities.exp() * log_probabilities).sum(-1).mean() / math.log(logits.shape[-1])


def collapse_flags(metrics: dict[str, float]) -> list[str]:
    """Flags of an epoch's means or of a result; empty where nothing is wrong or known.

    The first is ``collapsed``; the others say by which sign.
    """
    teacher = metrics.get("train/teacher_entropy", 0.5)
    signs = {
        "features_constant": metrics.get("train/feature_std", 1.0) < MIN_FEATURE_STD,
        "teacher_one_hot": teacher < TEACHER_RANGE[0],
        "teacher_uniform": teacher > TEACHER_RANGE[1],
        "rank_one": metrics.get("label_free/rankme", 2.0) < MIN_RANKME,
    }
    found = [name for name, present in signs.items() if present]
    return ["collapsed", *found] if found else []
