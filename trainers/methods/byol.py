"""BYOL: an online network predicts what a slowly moving copy of itself says about the other view.

Paper: Grill et al. 2020, arXiv:2006.07733. Author code: google-deepmind/deepmind-research/byol.
Different here: narrower heads (1024 instead of 4096) and an EMA start for small data and short budgets.
The target (backbone and projector) runs in train mode as in the author code; only its parameters are averaged.
Shapes: b images of this rank, K projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.backbones import Backbone
from trainers.data.views import ViewSpec
from trainers.methods.augmentations import asymmetric_views, check_crop, check_options, crop_floor
from trainers.methods.base import AbstractMethod
from trainers.methods.ema import ema_momentum, ema_update, frozen_copy
from trainers.methods.heads import mlp
from trainers.methods.precision import in_float32
from trainers.records import Batch, Progress, StepOutput


@in_float32
def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over rows of 2 - 2 cos(prediction, target), in [0, 4]. Both (b, K). Paper, equation 2."""
    return 2 - 2 * F.cosine_similarity(prediction, target, dim=-1).mean()


@final
class BYOL(AbstractMethod):
    """Online backbone, projector and predictor; target backbone and projector."""

    summary = "self-distillation: predict the slowly moving target's projection of the other view"
    paper = "Grill et al. 2020, Bootstrap Your Own Latent, arXiv:2006.07733"
    family = "joint-embedding"

    @dataclass(frozen=True, kw_only=True)
    class Config(AbstractMethod.Config):
        momentum: float | None = None
        """EMA momentum of the first step, cosine to 1. Paper 0.996 (1000 epochs), 0.99 (100); null = 0.99, less on
        budgets under 1,600 steps (``ema_momentum``)."""
        hidden_dim: int = 1024
        """Of projector and predictor; paper 4096."""
        projection_dim: int = 256
        crop_min: float | None = None
        """Smallest share of the area a crop covers; null = 0.08, and 0.2 under 112 px."""

        def __post_init__(self) -> None:
            good = self.momentum is None or 0 <= self.momentum <= 1
            check_options(
                (good, "momentum", f"must lie between 0 and 1, got {self.momentum}"),
                (min(self.hidden_dim, self.projection_dim) > 0, "hidden_dim", "widths must be 1 or more"),
                check_crop(self.crop_min),
            )

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        # No bias at its end: the predictor's batch norm would remove it again.
        self.projector = mlp(backbone.feature_dim, config.hidden_dim, config.projection_dim, last_bias=False)
        self.predictor = mlp(config.projection_dim, config.hidden_dim, config.projection_dim)
        self.target_backbone = frozen_copy(backbone)
        self.target_projector = frozen_copy(self.projector)

    @classmethod
    def views(cls, config: Config, image_size: int) -> list[ViewSpec]:
        return asymmetric_views(image_size, (crop_floor(config.crop_min, image_size), 1.0))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        images = torch.cat(batch.views)
        features = self.backbone(images)
        p_a, p_b = self.predictor(self.projector(features)).chunk(2)
        with torch.no_grad():
            z_a, z_b = self.target_projector(self.target_backbone(images)).chunk(2)
        return StepOutput(byol_loss(p_a, z_b) + byol_loss(p_b, z_a), features.detach())

    def after_step(self, progress: Progress) -> None:
        momentum = ema_momentum(self.config.momentum, progress)
        ema_update(self.target_backbone, self.backbone, momentum)
        ema_update(self.target_projector, self.projector, momentum)

    def embed(self, features: Tensor) -> Tensor:
        projection: Tensor = self.projector(features)
        return projection
