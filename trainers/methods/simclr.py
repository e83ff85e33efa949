"""SimCLR: two views of an image attract each other, all other images of the joint batch repel.

Paper: Chen et al. 2020, arXiv:2002.05709. Author code: google-research/simclr.
Different here: 2-layer head with batch norm on the hidden layer only; T = 0.2 as in solo-learn's ResNet-18 recipes
(paper: 0.1 on ImageNet); negatives come from all ranks, with gradients.
Shapes: b images of this rank, B of all ranks, D features, K projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.backbones import Backbone
from trainers.data.views import ViewSpec
from trainers.distributed import all_gather_rows, rank
from trainers.methods.augmentations import check_crop, check_options, symmetric_views
from trainers.methods.base import AbstractMethod
from trainers.methods.heads import mlp
from trainers.methods.precision import in_float32
from trainers.records import Batch, Progress, StepOutput


@in_float32
def nt_xent(z_a: Tensor, z_b: Tensor, temperature: float) -> Tensor:
    """Mean over the 2b local anchors i of -log( exp(s_i,pos / T) / sum over j != i of exp(s_ij / T) ), s = cosine.

    ``z_a``, ``z_b`` (b, K): projections of the two views; j runs over the 2B - 1 others of all ranks, the positive
    included. Paper, equation 1.
    """
    z = F.normalize(torch.stack([z_a, z_b], 1), dim=-1)
    everyone = all_gather_rows(z)
    num_all, start = len(everyone), rank() * len(z)
    anchors, others = torch.cat([z[:, 0], z[:, 1]]), torch.cat([everyone[:, 0], everyone[:, 1]])
    own = torch.arange(start, start + len(z), device=z.device)
    logits = anchors @ others.T / temperature
    itself = torch.cat([own, own + num_all])
    logits = logits.scatter(1, itself[:, None], float("-inf"))
    return F.cross_entropy(logits, torch.cat([own + num_all, own]))


@final
class SimCLR(AbstractMethod):
    """Backbone, 2-layer projector, NT-Xent."""

    summary = "contrastive: two views attract, all other images of the batch repel"
    paper = "Chen et al. 2020, A Simple Framework for Contrastive Learning of Visual Representations, arXiv:2002.05709"
    family = "joint-embedding"

    @dataclass(frozen=True, kw_only=True)
    class Config(AbstractMethod.Config):
        temperature: float = 0.2
        """Paper 0.1 (ImageNet); 0.2 for ResNet-18 in solo-learn; lightly's small benchmarks 0.5."""
        hidden_dim: int = 1024
        """Paper 2048."""
        projection_dim: int = 128
        crop_min: float | None = None
        """Smallest share of the area a crop covers; null = 0.08, and 0.2 under 112 px."""

        def __post_init__(self) -> None:
            check_options(
                (self.temperature > 0, "temperature", f"must be greater than 0, got {self.temperature}"),
                (min(self.hidden_dim, self.projection_dim) > 0, "hidden_dim", "widths must be 1 or more"),
                check_crop(self.crop_min),
            )

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = mlp(backbone.feature_dim, config.hidden_dim, config.projection_dim)

    @classmethod
    def views(cls, config: Config, image_size: int) -> list[ViewSpec]:
        return symmetric_views(image_size, config.crop_min)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        features = self.backbone(torch.cat(batch.views))
        z_a, z_b = self.projector(features).chunk(2)
        return StepOutput(nt_xent(z_a, z_b, self.config.temperature), features.detach())

    def embed(self, features: Tensor) -> Tensor:
        projection: Tensor = self.projector(features)
        return projection
