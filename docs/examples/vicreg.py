"""VICReg: two views agree, every dimension keeps its spread, no two dimensions say the same.

Paper: Bardes, Ponce & LeCun 2022, arXiv:2105.04906. Author code: facebookresearch/vicreg.
The loss is that of the author code (and of algorithm 1), whose weights 25, 25, 1 belong to it: the invariance is a mean
also over dimensions, which equation 5 leaves out, and the variance terms of the two views are averaged.
Different here: variance and covariance are those of the joint batch of all ranks, with gradients; expander 1024 wide
instead of 8192.
Shapes: b images of this rank, B of all ranks, D features, K expander output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.backbones import Backbone
from trainers.data.views import ViewSpec
from trainers.distributed import all_reduce_sum, world_size
from trainers.methods.augmentations import check_crop, check_options, symmetric_views
from trainers.methods.base import AbstractMethod
from trainers.methods.heads import mlp
from trainers.methods.precision import in_float32
from trainers.records import Batch, Progress, StepOutput

EPS = 1e-4  # under the root of the deviation; paper, equation 2
TARGET_STD = 1.0  # gamma; paper, section 4.2


@in_float32
def vicreg_loss(z_a: Tensor, z_b: Tensor, invariance: float, variance: float, covariance: float) -> Tensor:
    """invariance * s(Z, Z') + variance * [v(Z) + v(Z')] / 2 + covariance * [c(Z) + c(Z')]. Paper, equation 6.

    ``z_a``, ``z_b`` (b, K). s = mean of (z - z')^2 over images and dimensions (equation 5);
    v(Z) = mean over d of max(0, 1 - sqrt(Var(z_d) + eps)) (equation 1);
    c(Z) = 1/K * sum over d != e of C_de^2, C = covariance of Z (equations 3 and 4). Var and C have the divisor B - 1.
    """
    num_all = len(z_a) * world_size()
    agreement = F.mse_loss(z_a, z_b)  # the ranks' mean is the joint batch's
    z = torch.stack([z_a, z_b])
    z = z - (all_reduce_sum(z.sum(1)) / num_all)[:, None]
    joint = all_reduce_sum(z.mT @ z) / (num_all - 1)
    variances = joint.diagonal(dim1=1, dim2=2)
    spread = F.relu(TARGET_STD - (variances + EPS).sqrt()).mean()
    redundancy = (joint.square().sum() - variances.square().sum()) / z.shape[-1]
    return invariance * agreement + variance * spread + covariance * redundancy


@final
class VICReg(AbstractMethod):
    """Backbone, 3-layer expander, invariance, variance and covariance."""

    summary = "two views agree, dimensions keep their spread and are decorrelated"
    paper = "Bardes et al. 2022, VICReg: Variance-Invariance-Covariance Regularization, arXiv:2105.04906"
    family = "joint-embedding"

    @dataclass(frozen=True, kw_only=True)
    class Config(AbstractMethod.Config):
        invariance: float = 25.0
        """Paper 25 (its lambda)."""
        variance: float = 25.0
        """Paper 25 (its mu)."""
        covariance: float = 1.0
        """Paper 1 (its nu)."""
        hidden_dim: int = 1024
        """Paper 8192."""
        projection_dim: int = 1024
        """Paper 8192."""
        crop_min: float | None = None
        """Smallest share of the area a crop covers; null = 0.08, and 0.2 under 112 px."""

        def __post_init__(self) -> None:
            weights = self.invariance, self.variance, self.covariance
            check_options(
                (min(weights) >= 0, "invariance", f"the three weights must be 0 or more, got {weights}"),
                (min(self.hidden_dim, self.projection_dim) > 1, "hidden_dim", "widths must be 2 or more"),
                check_crop(self.crop_min),
            )

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.expander = mlp(backbone.feature_dim, config.hidden_dim, config.hidden_dim, config.projection_dim,
                            last_bias=False)  # only the mean would move with it, which no term but s looks at

    @classmethod
    def views(cls, config: Config, image_size: int) -> list[ViewSpec]:
        return symmetric_views(image_size, config.crop_min)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        config, features = self.config, self.backbone(torch.cat(batch.views))
        z_a, z_b = self.expander(features).chunk(2)
        loss = vicreg_loss(z_a, z_b, config.invariance, config.variance, config.covariance)
        return StepOutput(loss, features.detach())

    def embed(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.expander(features)
        return embedding
