"""What every method is: views it wants, a loss from a batch, features from images. Nothing else.

A method never logs, steps an optimiser, or asks which rank it is; the loop in ``trainers.train`` does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from trainers.backbones import Backbone
from trainers.data.views import ViewSpec
from trainers.records import Batch, Progress, StepOutput


class AbstractMethod(nn.Module, ABC):
    """Base of all methods. Subclasses are final: one level, no overriding of concrete methods.

    ``Config`` is a frozen, keyword-only dataclass of the method's own hyper-parameters; its defaults are
    the paper's or the recipe's values. ``__init__(backbone, config)`` builds heads on ``backbone.feature_dim``.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Overridden by each method."""

    summary: ClassVar[str]
    """One line for ``ablation methods``."""
    paper: ClassVar[str]
    """Citation with arXiv number."""
    family: ClassVar[str]
    """``joint-embedding``, ``reconstruction`` or ``supervised``."""
    uses_labels: ClassVar[bool] = False

    backbone: Backbone
    """The network that gradients train."""

    @classmethod
    @abstractmethod
    def views(cls, config: Any, image_size: int) -> list[ViewSpec]:
        """The augmentations of one image, equal-sized ones first."""

    @abstractmethod
    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """The loss of this rank's share of the joint batch. Runs under autocast; the loss itself in float32.

        With N ranks the mean of the ranks' gradients must equal the gradient of one process on the joint batch.
        """

    @property
    def encoder(self) -> Backbone:
        """The network that is evaluated and exported (DINO: the teacher's)."""
        return self.backbone

    @abstractmethod
    def embed(self, features: Tensor) -> Tensor:
        """Features (B, D) of the encoder -> embedding (B, K) for ``rankme_embedding``; identity where no projector."""

    def before_step(self, progress: Progress) -> None:
        """After backward and clipping, before the optimiser step (DINO freezes its last layer here)."""
        return

    def after_step(self, progress: Progress) -> None:
        """After the optimiser step (EMA updates)."""
        return

    def no_decay(self) -> Iterable[str]:
        """Names of parameters without weight decay beyond the 1-d ones (tokens, positions)."""
        return ()
