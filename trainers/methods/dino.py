"""DINO: a student matches the sharpened, centred prototype assignments of its EMA teacher across crops.

Paper: Caron et al. 2021, arXiv:2104.14294. Author code: facebookresearch/dino.
Different here: 2,048 prototypes instead of 65,536 and 4 local crops instead of 8 (small data); batch norm in the head
on convnets (lightly, stable-pretraining), none on ViTs (paper); the EMA starts at 0.99, lower on short budgets.
The teacher runs in train mode and averages parameters only; its backbone is the exported encoder.
Shapes: b images of this rank, G = 2 global and L local views, K prototypes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from trainers.backbones import SMALL_IMAGE, Backbone
from trainers.collapse import entropy_share
from trainers.data.views import ViewSpec
from trainers.distributed import all_reduce_mean
from trainers.methods.augmentations import asymmetric_view, asymmetric_views, check_options
from trainers.methods.base import AbstractMethod
from trainers.methods.ema import ema_momentum, ema_update, frozen_copy
from trainers.methods.heads import PrototypeHead
from trainers.methods.precision import in_float32
from trainers.records import Batch, Progress, StepOutput

NUM_GLOBAL = 2


@in_float32
def dino_loss(
    student: Tensor, teacher: Tensor, center: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Mean over (teacher global t, student view s != t) of -sum softmax((g_t - c) / T_t) log softmax(g_s / T_s).

    ``student`` (G + L, b, K), ``teacher`` (G, b, K), ``center`` (K,). Paper, equations 2 and 3, algorithm 1.
    """
    targets = ((teacher.detach() - center) / teacher_temperature).softmax(-1)
    log_probabilities = (student / student_temperature).log_softmax(-1)
    cross_entropies = -torch.einsum("tbk,sbk->ts", targets, log_probabilities) / student.shape[1]
    num_pairs = len(teacher) * (len(student) - 1)
    return (cross_entropies.sum() - cross_entropies.diagonal().sum()) / num_pairs


@final
class DINO(AbstractMethod):
    """Student and teacher, each a backbone with a prototype head."""

    summary = "self-distillation over multi-crop: match an EMA teacher's prototype assignments"
    paper = "Caron et al. 2021, Emerging Properties in Self-Supervised Vision Transformers, arXiv:2104.14294"
    family = "joint-embedding"
    center: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Config(AbstractMethod.Config):
        num_prototypes: int = 2048
        """Paper 65,536; ResNet-18 recipes 2,048 (lightly) or 4,096 (solo-learn)."""
        hidden_dim: int = 1024
        """Paper 2048."""
        bottleneck_dim: int = 256
        num_local_crops: int = 4
        """Paper 8."""
        crop_boundary: float = 0.4
        """Share of the area: global crops cover more, local ones less. Paper: 0.4 for ViTs, 0.14 for convnets."""
        local_crop_min: float | None = None
        """Paper 0.05; null = that, and 0.14 under 112 px (5 % of 64 x 64 are 14 x 14 pixels)."""
        student_temperature: float = 0.1
        teacher_temperature: float = 0.04
        teacher_temperature_end: float = 0.07
        """Reached linearly after ``teacher_warmup``; set it to 0.04 for a constant temperature."""
        teacher_warmup: float = 0.3
        """Share of the run; paper 30 of 100 epochs."""
        center_momentum: float = 0.9
        momentum: float | None = None
        """EMA momentum of the first step, cosine to 1. Paper 0.996; null = 0.99, less on budgets under 1,600 steps."""

        def __post_init__(self) -> None:
            temperatures = (self.student_temperature, self.teacher_temperature, self.teacher_temperature_end)
            check_options(
                (min(temperatures) > 0, "teacher_temperature", f"temperatures must be above 0, got {temperatures}"),
                (self.num_local_crops >= 0, "num_local_crops", f"must be 0 or more, got {self.num_local_crops}"),
                (self.num_prototypes > 1, "num_prototypes", f"must be 2 or more, got {self.num_prototypes}"),
                (0 < self.crop_boundary <= 1, "crop_boundary", f"a share of the area, got {self.crop_boundary}"),
                (0 <= self.center_momentum < 1, "center_momentum", f"must be under 1, got {self.center_momentum}"),
                (self.local_crop_min is None or 0 < self.local_crop_min <= self.crop_boundary, "local_crop_min",
                 f"must lie between 0 and crop_boundary, got {self.local_crop_min}"),
                (self.momentum is None or 0 <= self.momentum <= 1, "momentum",
                 f"must lie between 0 and 1, got {self.momentum}"),
            )

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.head = PrototypeHead(
            backbone.feature_dim, hidden_dim=config.hidden_dim, bottleneck_dim=config.bottleneck_dim,
            num_prototypes=config.num_prototypes, norm=backbone.kind == "resnet",
        )
        self.teacher_backbone = frozen_copy(backbone)
        self.teacher_head = frozen_copy(self.head)
        self.register_buffer("center", torch.zeros(config.num_prototypes))

    @classmethod
    def views(cls, config: Config, image_size: int) -> list[ViewSpec]:
        if image_size < SMALL_IMAGE:
            size, floor = image_size // 2, 0.14  # 4 x 4 of the ViT's 8 x 8 patches
        else:
            size, floor = image_size * 3 // 7 // 16 * 16, 0.05  # the paper's 96 px at 224, a multiple of patch 16
        scale = (min(config.local_crop_min or floor, config.crop_boundary), config.crop_boundary)
        local = asymmetric_view(size, scale, blur_p=0.0 if image_size < SMALL_IMAGE else 0.5, solarize_p=0.0)
        return [*asymmetric_views(image_size, (config.crop_boundary, 1.0)), *[local] * config.num_local_crops]

    @property
    def encoder(self) -> Backbone:
        return self.teacher_backbone

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        config, num_images = self.config, len(batch.labels)
        images = torch.cat(batch.views[:NUM_GLOBAL])
        features = self.backbone(images)
        crops = [features]
        if len(batch.views) > NUM_GLOBAL:
            crops.append(self.backbone(torch.cat(batch.views[NUM_GLOBAL:])))
        student = self.head(torch.cat(crops)).unflatten(0, (-1, num_images))
        with torch.no_grad():
            teacher = self.teacher_head(self.teacher_backbone(images)).unflatten(0, (NUM_GLOBAL, num_images))
        warm = min(1.0, progress.fraction / config.teacher_warmup) if config.teacher_warmup > 0 else 1.0
        temperature = config.teacher_temperature + warm * (config.teacher_temperature_end - config.teacher_temperature)
        loss = dino_loss(student, teacher, self.center, config.student_temperature, temperature)
        entropy = entropy_share((teacher.float() - self.center) / temperature)
        if self.training:
            self._update_center(teacher)
        return StepOutput(loss, features.detach(), {"teacher_entropy": entropy})

    @torch.no_grad()
    def _update_center(self, teacher: Tensor) -> None:
        """After the loss, over both global views and all ranks; paper, equation 4."""
        mean = all_reduce_mean(teacher.to(self.center.dtype).mean((0, 1)))
        self.center.lerp_(mean, 1 - self.config.center_momentum)

    def before_step(self, progress: Progress) -> None:
        """The prototypes stand still in the first epoch (author code), or 5 % of a run of fewer than 20 epochs."""
        frozen = progress.epoch < 1 if progress.total_epochs >= 20 else progress.fraction < 0.05
        if frozen:
            self.head.prototypes.grad = None

    def after_step(self, progress: Progress) -> None:
        momentum = ema_momentum(self.config.momentum, progress)
        ema_update(self.teacher_backbone, self.backbone, momentum)
        ema_update(self.teacher_head, self.head, momentum)

    def embed(self, features: Tensor) -> Tensor:
        return self.teacher_head.embed(features)
