"""Barlow Twins: the cross-correlation of two views' projections becomes the identity.

Paper: Zbontar et al. 2021, arXiv:2103.03230. Author code: facebookresearch/barlowtwins.
Different here: mean, variance and correlation are those of the joint batch of all ranks, with gradients through the
sums (the author code loses a factor 1/N there; no peer is exact); head at most 1024 wide instead of 8192.
Shapes: b images of this rank, B of all ranks, K projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from trainers.backbones import SMALL_IMAGE, Backbone
from trainers.data.views import ViewSpec
from trainers.distributed import all_reduce_sum, world_size
from trainers.methods.augmentations import asymmetric_views, check_crop, check_options, crop_floor
from trainers.methods.base import AbstractMethod
from trainers.methods.heads import mlp
from trainers.methods.precision import in_float32
from trainers.records import Batch, Progress, StepOutput

EPS = 1e-5  # of the affine-free batch norm in the author code


@in_float32
def barlow_twins_loss(z_a: Tensor, z_b: Tensor, off_diagonal_weight: float) -> Tensor:
    """Sum over d of (1 - C_dd)^2 + weight * sum over d != e of C_de^2, C = standardised(z_a)^T standardised(z_b) / B.

    ``z_a``, ``z_b`` (b, K). Standardised over the joint batch with the population variance. Paper, equation 1.
    """
    num_all = len(z_a) * world_size()
    z = torch.stack([z_a, z_b])
    centered = z - (all_reduce_sum(z.sum(1)) / num_all)[:, None]
    variance = all_reduce_sum(centered.square().sum(1)) / num_all
    z = centered * torch.rsqrt(variance + EPS)[:, None]
    correlation = all_reduce_sum(z[0].T @ z[1]) / num_all
    diagonal = correlation.diagonal()
    off_diagonal = correlation.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum() + off_diagonal_weight * off_diagonal


@final
class BarlowTwins(AbstractMethod):
    """Backbone, 3-layer projector, redundancy reduction."""

    summary = "redundancy reduction: cross-correlation of two views becomes the identity"
    paper = "Zbontar et al. 2021, Barlow Twins: Self-Supervised Learning via Redundancy Reduction, arXiv:2103.03230"
    family = "joint-embedding"

    @dataclass(frozen=True, kw_only=True)
    class Config(AbstractMethod.Config):
        off_diagonal_weight: float = 0.0051
        """Paper 0.0051 (its lambda)."""
        hidden_dim: int = 1024
        """Paper 8192; ResNet-18 recipes 2048."""
        projection_dim: int | None = None
        """Paper 8192; ResNet-18 recipes 2048. Null = 1024, and 128 under 112 px, where batches are small too: the
        off-diagonal of C holds K^2 / B of sampling noise (docs/results/recipes.md)."""
        crop_min: float | None = None
        """Smallest share of the area a crop covers; null = 0.08, and 0.2 under 112 px."""

        def __post_init__(self) -> None:
            weight = self.off_diagonal_weight
            check_options(
                (weight >= 0, "off_diagonal_weight", f"must be 0 or more, got {weight}"),
                (min(self.hidden_dim, self.projection_dim or 1) > 0, "hidden_dim", "widths must be 1 or more"),
                check_crop(self.crop_min),
            )

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        width = config.projection_dim or (128 if backbone.image_size < SMALL_IMAGE else 1024)
        self.projector = mlp(backbone.feature_dim, config.hidden_dim, config.hidden_dim, width, last_bias=False)

    @classmethod
    def views(cls, config: Config, image_size: int) -> list[ViewSpec]:
        return asymmetric_views(image_size, (crop_floor(config.crop_min, image_size), 1.0))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        features = self.backbone(torch.cat(batch.views))
        z_a, z_b = self.projector(features).chunk(2)
        return StepOutput(barlow_twins_loss(z_a, z_b, self.config.off_diagonal_weight), features.detach())

    def embed(self, features: Tensor) -> Tensor:
        projection: Tensor = self.projector(features)
        return projection
