"""MAE: predict hidden pixels from the visible rest; the encoder never sees what is hidden, nor mask tokens.

Paper: He et al. 2022, arXiv:2111.06377 (ViT); SparK, Tian et al. 2023, arXiv:2301.03580 (ResNet, masked convolution).
Author code: facebookresearch/mae, keyu-tian/SparK.
Same target, loss and views on both backbones. Different here: decoder 128 wide and 2 deep (paper 512, 8); the
encoder's position table starts as MAE's sine-cosine one but is trained, being timm's. Cells: the ViT's patch at 75 %;
the ResNet's total stride (32 px, 16 px under 112 px) at 60 %, see ``mask_geometry``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast, final

import torch
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from trainers.backbones import Backbone
from trainers.data.views import ViewSpec
from trainers.methods.augmentations import check_options
from trainers.methods.base import AbstractMethod
from trainers.methods.decoders import PyramidDecoder, TokenDecoder, sincos_positions
from trainers.methods.masked_resnet import masked_mean, require_plain_resnet, stage_maps
from trainers.methods.masking import (
    flat_share,
    mask_geometry,
    masked_pixel_loss,
    patchify,
    visible_cells,
    visible_map,
)
from trainers.records import Batch, Progress, StepOutput


@dataclass(frozen=True, kw_only=True)
class MaskedConfig(AbstractMethod.Config):
    """Settings of ``mae`` and of its control arm ``mae_dense``."""

    mask_ratio: float | None = None
    """Share of hidden cells; null = 0.75 on a ViT (MAE), 0.6 on a ResNet (SparK)."""
    decoder_dim: int = 128
    """Width of the decoder, a multiple of 32. Paper 512."""
    decoder_depth: int = 2
    """Blocks of the ViT's decoder. Paper 8."""
    crop_min: float = 0.2
    """Smallest share of the area a crop covers; crop and flip are the only augmentation (paper, section 4.1)."""

    def __post_init__(self) -> None:
        ratio = self.mask_ratio
        check_options(
            (ratio is None or 0 < ratio < 1, "mask_ratio", f"must lie between 0 and 1, got {ratio}"),
            (self.decoder_dim >= 32 and self.decoder_dim % 32 == 0, "decoder_dim",
             f"must be a multiple of 32, got {self.decoder_dim}"),
            (self.decoder_depth > 0, "decoder_depth", f"must be 1 or more, got {self.decoder_depth}"),
            (0 < self.crop_min <= 1, "crop_min", f"a share of the area, 0 to 1, got {self.crop_min}"),
        )


def build_decoder(backbone: Backbone, config: MaskedConfig, *, method: str) -> TokenDecoder | PyramidDecoder:
    """The decoder for a backbone's kind; also starts a ViT's position table as MAE's."""
    geometry, masked = mask_geometry(backbone, config.mask_ratio, method), method == "mae"
    if backbone.kind == "resnet":
        require_plain_resnet(backbone, method)
        channels = [int(stage["num_chs"]) for stage in backbone.net.feature_info[1:]]  # type: ignore[union-attr,index]
        return PyramidDecoder(channels, cell=geometry.cell, width=config.decoder_dim, masked=masked)
    net = cast(VisionTransformer, backbone.net)
    table = sincos_positions(geometry.grid, backbone.feature_dim)
    with torch.no_grad():
        cast(Tensor, net.pos_embed)[0, -len(table) :].copy_(table)
    return TokenDecoder(
        backbone.feature_dim, grid=geometry.grid, cell=geometry.cell, num_prefix=net.num_prefix_tokens,
        dim=config.decoder_dim, depth=config.decoder_depth, masked=masked,
    )


@final
class MAE(AbstractMethod):
    """Backbone on visible cells, light decoder on all."""

    summary = "reconstruction: predict hidden pixels; the encoder sees visible cells only (SparK-like on a ResNet)"
    paper = "He et al. 2022, Masked Autoencoders Are Scalable Vision Learners, arXiv:2111.06377; SparK arXiv:2301.03580"
    family = "reconstruction"

    @dataclass(frozen=True, kw_only=True)
    class Config(MaskedConfig):
        pass

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.geometry = mask_geometry(backbone, config.mask_ratio, "mae")
        self.decoder = build_decoder(backbone, config, method="mae")

    @classmethod
    def views(cls, config: Config, image_size: int) -> list[ViewSpec]:
        return [ViewSpec(size=image_size, scale=(config.crop_min, 1.0))]

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        images = batch.views[0]
        keep = visible_cells(batch.keys, self.geometry)
        visible = visible_map(keep, self.geometry)
        if self.backbone.kind == "vit":
            tokens = self.backbone.tokens(images, keep)
            features, prediction = self.backbone.pool(tokens), self.decoder(tokens, keep)
        else:
            maps = stage_maps(cast(ResNet, self.backbone.net), images, visible)
            features, prediction = masked_mean(maps[-1], visible), self.decoder(maps, visible)
        pixels, hidden = patchify(images, self.geometry.cell), ~visible.flatten(1)
        loss = masked_pixel_loss(prediction, pixels, hidden)
        return StepOutput(loss, features.detach(), {"flat_patches": flat_share(pixels, hidden)})

    def embed(self, features: Tensor) -> Tensor:
        return features

    def no_decay(self) -> Iterable[str]:
        return [name for name, _ in self.decoder.named_parameters(prefix="decoder") if "mask_token" in name]
