"""Light decoders from features to pixels, thrown away after pre-training.

Shapes: B images, N = g * g cells, n visible, P prefix tokens, D features, Q = 3 p^2 pixel values of a cell.
"""

from __future__ import annotations

from typing import final

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.backbones import choose_attention
from trainers.methods.masking import enlarge, patchify


def sincos_positions(grid: int, dim: int) -> Tensor:
    """(g * g, dim) two-dimensional sine-cosine table of the author code of MAE; ``dim`` a multiple of 4."""
    frequencies = 10_000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], 1)
    columns, rows = axis[None].expand(grid, -1, -1), axis[:, None].expand(-1, grid, -1)
    return torch.cat([columns, rows], -1).reshape(grid * grid, dim).float()


@final
class TokenDecoder(nn.Module):
    """A small ViT over visible tokens and mask tokens, as in MAE (arXiv:2111.06377), section 3.

    ``masked`` False (mae_dense): the encoder gave a token for every cell, so there is no mask token.
    """

    positions: Tensor

    def __init__(self, feature_dim: int, *, grid: int, cell: int, num_prefix: int, dim: int, depth: int, masked: bool):
        super().__init__()
        self.num_prefix = num_prefix
        self.embed = nn.Linear(feature_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim)) if masked else None
        self.register_buffer("positions", sincos_positions(grid, dim), persistent=False)
        self.blocks = nn.Sequential(*[Block(dim, num_heads=dim // 32, qkv_bias=True) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 3 * cell * cell)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        if self.mask_token is not None:
            nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Tensor, keep: Tensor | None) -> Tensor:
        """(B, P + n, D) and the cells (B, n) they stand for (None: all, in order) -> (B, N, Q)."""
        choose_attention(self.blocks, tokens.device)
        x = self.embed(tokens)
        prefix, patches = x[:, : self.num_prefix], x[:, self.num_prefix :]
        if keep is not None:
            assert self.mask_token is not None
            empty = self.mask_token.to(x.dtype).expand(len(x), len(self.positions), -1)
            patches = empty.scatter(1, keep[:, :, None].expand_as(patches), patches)
        patches = patches + self.positions.to(x.dtype)
        x = self.norm(self.blocks(torch.cat([prefix, patches], 1)))
        prediction: Tensor = self.head(x[:, self.num_prefix :])
        return prediction


@final
class PyramidDecoder(nn.Module):
    """Three scales up from the last map, after SparK's U-Net decoder (arXiv:2301.03580), section 3.2.

    Different here: nearest up-sampling, one width, 1x1 projections, and it stops at the second stage, where one 1x1
    convolution gives the pixels of each position. ``masked`` False (mae_dense): no mask tokens.
    """

    def __init__(self, channels: list[int], *, cell: int, width: int, masked: bool):
        super().__init__()
        self.cell = cell
        deep_first = channels[:0:-1]
        self.projections = nn.ModuleList(nn.Conv2d(c, width, 1) for c in deep_first)
        self.mask_tokens = nn.ParameterList(torch.empty(1, c, 1, 1) for c in deep_first) if masked else None
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in deep_first
        )
        self.pixels = cell // 2 ** (len(deep_first) - 1)
        self.head = nn.Conv2d(width, 3 * self.pixels**2, 1)
        for token in self.mask_tokens or ():
            nn.init.trunc_normal_(token, std=0.02)

    def forward(self, maps: list[Tensor], visible: Tensor | None) -> Tensor:
        """Stage maps, shallow first, and the cells (B, 1, g, g) that are real (None: all) -> (B, N, Q)."""
        x: Tensor | None = None
        for level, features in enumerate(maps[:0:-1]):
            if visible is not None:
                assert self.mask_tokens is not None
                token = self.mask_tokens[level].to(features.dtype)
                features = torch.where(enlarge(visible, features.shape[-1]), features, token)
            lateral = self.projections[level](features)
            x = self.blocks[level](lateral if x is None else F.interpolate(x, scale_factor=2.0) + lateral)
        return patchify(F.pixel_shuffle(self.head(x), self.pixels), self.cell)
