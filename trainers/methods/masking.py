"""What masked methods share: which cells are hidden, what is to be predicted, the loss.

Shapes: B images, N = g * g cells of p pixels a side, n visible ones, Q = 3 p^2 pixel values of a cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.backbones import Backbone
from trainers.config import ConfigError
from trainers.draws import uniforms
from trainers.methods.precision import in_float32

MASK_RATIO = {"vit": 0.75, "resnet": 0.6}  # MAE (arXiv:2111.06377); SparK (arXiv:2301.03580)
FLAT_STD = 0.03  # about two grey levels in images normalised by a standard deviation of 1/4


@dataclass(frozen=True)
class MaskGeometry:
    """Cells of one backbone at its image size."""

    cell: int
    """Side of a cell, pixels: the ViT's patch, the ResNet's total stride."""
    grid: int
    """Cells per side."""
    num_masked: int
    """Hidden cells per image; at least one is hidden and one is seen."""

    @property
    def num_cells(self) -> int:
        return self.grid * self.grid

    @property
    def num_visible(self) -> int:
        return self.num_cells - self.num_masked


def mask_geometry(backbone: Backbone, mask_ratio: float | None, method: str) -> MaskGeometry:
    """Cells for ``backbone``; a null ratio takes the paper's. Raises ``ConfigError`` where cells do not fit.

    A ResNet-18 at 32 px has 2 x 2 cells (2 of 4 hidden): it trains, but is far from the 49 cells of SparK's 224 px.
    """
    if backbone.kind not in MASK_RATIO:
        raise ConfigError("backbone", f"{method} needs a plain ResNet or ViT of timm, not {backbone.name}")
    cell, size = backbone.patch_size, backbone.image_size
    if size % cell or size == cell:
        raise ConfigError("data.image_size", f"{method} on {backbone.name} hides cells of {cell} px: the size must be "
                                             f"a multiple of {cell}, {2 * cell} or more, got {size}")
    grid = size // cell
    ratio = MASK_RATIO[backbone.kind] if mask_ratio is None else mask_ratio
    return MaskGeometry(cell, grid, min(max(round(ratio * grid * grid), 1), grid * grid - 1))


def visible_cells(keys: Tensor, geometry: MaskGeometry) -> Tensor:
    """(B, n) int64 indices of the cells an image shows: a function of its key alone, so equal on any rank."""
    noise = uniforms(keys, 0, geometry.num_cells)
    return noise.argsort(stable=True, dim=1)[:, : geometry.num_visible]


def visible_map(indices: Tensor, geometry: MaskGeometry) -> Tensor:
    """(B, n) indices -> (B, 1, g, g) bool, True where the network may look."""
    flat = torch.zeros(len(indices), geometry.num_cells, dtype=torch.bool, device=indices.device)
    return flat.scatter_(1, indices, True).view(-1, 1, geometry.grid, geometry.grid)


def enlarge(cells: Tensor, size: int) -> Tensor:
    """(B, 1, g, g) -> (B, 1, size, size), each cell becoming a block."""
    times = size // cells.shape[-1]
    return cells.repeat_interleave(times, 2).repeat_interleave(times, 3)


def patchify(images: Tensor, cell: int) -> Tensor:
    """(B, 3, s, s) -> (B, N, Q), cells row by row."""
    batch, channels, height, width = images.shape
    x = images.reshape(batch, channels, height // cell, cell, width // cell, cell)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, cell * cell * channels)


@in_float32
def masked_pixel_loss(prediction: Tensor, pixels: Tensor, hidden: Tensor) -> Tensor:
    """Mean over hidden cells of the mean squared error against pixels standardised per cell.

    ``prediction``, ``pixels`` (B, N, Q); ``hidden`` (B, N) bool, equally many per image. Sample variance and epsilon
    1e-6 as in the author code of MAE.
    """
    mean = pixels.mean(-1, keepdim=True)
    target = (pixels - mean) / (pixels.var(-1, keepdim=True) + 1e-6).sqrt()
    errors = (prediction - target).square().mean(-1)
    return (errors * hidden).sum() / hidden.sum()


@torch.no_grad()
def flat_share(pixels: Tensor, hidden: Tensor) -> Tensor:
    """Share of hidden cells that are nearly constant: there the standardised target is camera noise."""
    flat = (pixels.std(-1) < FLAT_STD) & hidden
    return flat.sum().to(pixels.dtype) / hidden.sum()
