"""Supervised reference: the same trainer with labels, an upper mark for the label-free methods.

Loss and optimiser follow the binary classifier of Sewer-ML (Haurum & Moeslund 2021, CVPR). Different here: weights come
from the joint batch, not from the data set, so that both classes carry half of the loss in every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor, nn
from torch.nn import functional as F

from trainers.backbones import Backbone
from trainers.data.views import ViewSpec
from trainers.distributed import all_reduce_sum, world_size
from trainers.methods.augmentations import check_crop, check_options
from trainers.methods.base import AbstractMethod
from trainers.methods.precision import in_float32
from trainers.records import Batch, Progress, StepOutput


@in_float32
def weighted_bce(logits: Tensor, labels: Tensor, balanced: bool) -> Tensor:
    """Binary cross-entropy of ``logits`` (b,) against ``labels`` (b,) of 0 and 1, mean over rows.

    ``balanced``: row i weighs B / (2 n_c) with n_c the images of its class in the joint batch of B (scikit-learn's
    rule). In a batch without defects the normals weigh 1/2, so that the rate does not jump with the draw.
    """
    targets = labels.to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if not balanced:
        return losses.mean()
    num_all = len(logits) * world_size()
    num_defects = all_reduce_sum(targets.sum())
    per_defect = num_all / (2 * num_defects.clamp(min=1))
    per_normal = num_all / (2 * (num_all - num_defects).clamp(min=1))
    return (losses * (targets * per_defect + (1 - targets) * per_normal)).mean()


@final
class Supervised(AbstractMethod):
    """Backbone and one linear logit."""

    summary = "labels: binary classifier, the upper mark for the label-free methods"
    paper = "Haurum & Moeslund 2021, Sewer-ML: A Multi-Label Sewer Defect Classification Dataset, arXiv:2103.10895"
    family = "supervised"
    uses_labels = True

    @dataclass(frozen=True, kw_only=True)
    class Config(AbstractMethod.Config):
        class_weight: Literal["balanced", "none"] = "balanced"
        """``balanced``: both classes carry half of each joint batch's loss; ``none``: plain mean."""
        crop_min: float = 0.8
        """Smallest share of the area a crop covers: mild, a labelled defect must stay in the picture."""

        def __post_init__(self) -> None:
            check_options(check_crop(self.crop_min))

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.feature_dim, 1)

    @classmethod
    def views(cls, config: Config, image_size: int) -> list[ViewSpec]:
        return [ViewSpec(size=image_size, scale=(config.crop_min, 1.0))]

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        features = self.backbone(batch.views[0])
        logits = self.classifier(features)[:, 0]
        return StepOutput(weighted_bce(logits, batch.labels, self.config.class_weight == "balanced"), features.detach())

    def embed(self, features: Tensor) -> Tensor:
        return features
