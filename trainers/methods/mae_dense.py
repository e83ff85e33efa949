"""Control arm of ``mae``: the same target, loss and decoder, but the encoder sees the zeroed cells as an image.

On a ResNet a masked convolutional autoencoder (dense, the mask pattern fades with depth); on a ViT all tokens, those of
hidden cells made from zeroed pixels, in the spirit of SimMIM (Xie et al. 2022, arXiv:2111.09886). Whatever ``mae``
gains over it is due to the encoder not spending itself on hidden cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, final

from timm.models.resnet import ResNet
from torch import Tensor

from trainers.backbones import Backbone
from trainers.data.views import ViewSpec
from trainers.methods.base import AbstractMethod
from trainers.methods.mae import MaskedConfig, build_decoder
from trainers.methods.masked_resnet import stage_maps
from trainers.methods.masking import (
    enlarge,
    flat_share,
    mask_geometry,
    masked_pixel_loss,
    patchify,
    visible_cells,
    visible_map,
)
from trainers.records import Batch, Progress, StepOutput


@final
class MAEDense(AbstractMethod):
    """Backbone on the image with hidden cells zeroed, light decoder on all."""

    summary = "control arm of mae: hidden cells are zeroed pixels that a dense encoder sees"
    paper = "control of arXiv:2111.06377; compare Xie et al. 2022, SimMIM, arXiv:2111.09886"
    family = "reconstruction"

    @dataclass(frozen=True, kw_only=True)
    class Config(MaskedConfig):
        pass

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.geometry = mask_geometry(backbone, config.mask_ratio, "mae_dense")
        self.decoder = build_decoder(backbone, config, method="mae_dense")

    @classmethod
    def views(cls, config: Config, image_size: int) -> list[ViewSpec]:
        return [ViewSpec(size=image_size, scale=(config.crop_min, 1.0))]

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        images = batch.views[0]
        visible = visible_map(visible_cells(batch.keys, self.geometry), self.geometry)
        seen = images * enlarge(visible, images.shape[-1]).to(images.dtype)  # 0 = the mean colour
        if self.backbone.kind == "vit":
            tokens = self.backbone.tokens(seen)
            features, prediction = self.backbone.pool(tokens), self.decoder(tokens, None)
        else:
            maps = stage_maps(cast(ResNet, self.backbone.net), seen)
            features, prediction = maps[-1].mean((2, 3)), self.decoder(maps, None)
        pixels, hidden = patchify(images, self.geometry.cell), ~visible.flatten(1)
        loss = masked_pixel_loss(prediction, pixels, hidden)
        return StepOutput(loss, features.detach(), {"flat_patches": flat_share(pixels, hidden)})

    def embed(self, features: Tensor) -> Tensor:
        return features
