"""Where in an image something is unusual: distances of its patches to patches of reference images.

PatchCore (Roth et al., CVPR 2022, arXiv 2106.08265) with the trial's own encoder, one layer, a random (by seed)
instead of a greedy coreset, and the plain nearest distance without its reweighting: this is a map to look at, no
score. Features keep their length, as in PatchCore: scaled to unit length, the maps of a ResNet no longer found a
planted square. Shapes: B images, (h, w) patches per image, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.data.views import center_view
from trainers.export import Encoder
from trainers.machine import full_float32
from trainers.seeding import derive

BANK_PATCHES = 5_000
BATCH = 64
_DISTANCES = 2**24  # in memory at once: 64 MiB
FEWEST_CELLS = 4
"""Cells per side below which a map shows nothing."""
_RESNET_LAYER = 3
"""PatchCore's deepest layer: the last stage of an ImageNet network is bound to its classes, and too coarse."""


@torch.inference_mode()
def patch_features(encoder: Encoder, images: Tensor) -> Tensor:
    """uint8 (B, 3, H, H), any H -> (B, h, w, D) float32.

    ViT: the final normalised patch tokens. ResNet: the map of layer 3, or the deepest one before it with 4 x 4 cells;
    other networks: the deepest such map that timm gives. Maps of convolutions are averaged over 3 x 3 neighbours as in
    PatchCore. Raises ``ValueError`` for a network without such a map.
    """
    backbone = encoder.backbone
    view = center_view(images, backbone.image_size, encoder.normalize)
    if backbone.kind == "vit":
        net = cast(Any, backbone.net)
        tokens = backbone.tokens(view)[:, net.num_prefix_tokens:]
        return tokens.float().reshape(len(tokens), *net.patch_embed.grid_size, tokens.shape[-1])
    found = _deepest_map(backbone.net, view, list(range(1, _RESNET_LAYER + 1)) if backbone.kind == "resnet" else None)
    return F.avg_pool2d(found.float(), 3, stride=1, padding=1, count_include_pad=False).permute(0, 2, 3, 1)


def _deepest_map(net: torch.nn.Module, view: Tensor, layers: list[int] | None) -> Tensor:
    forward = getattr(net, "forward_intermediates", None)
    if forward is None:
        raise ValueError(f"timm gives no feature maps of {type(net).__name__}")
    maps: list[Tensor] = forward(view, indices=layers, intermediates_only=True, stop_early=layers is not None)
    fine = [found for found in maps if found.ndim == 4 and min(found.shape[-2:]) >= FEWEST_CELLS]
    if not fine:
        raise ValueError(f"{type(net).__name__} has no map of {FEWEST_CELLS} x {FEWEST_CELLS} cells for "
                         f"{view.shape[-1]}-px images")
    return fine[-1]


def memory_bank(encoder: Encoder, reference_images: np.ndarray, *, size: int = BANK_PATCHES,
                seed: int = 0) -> np.ndarray:
    """(M, D) float32 patches of uint8 (R, 3, H, H) reference images: all, or ``size`` of them at random by ``seed``.

    Only a batch of maps and the bank are ever in memory. Raises ``ValueError`` for images of another form.
    """
    kept: np.ndarray | None = None
    parts, start = [], 0
    for found in _batches(encoder, reference_images):
        per_image = found.shape[1] * found.shape[2]
        if kept is None:
            total = len(reference_images) * per_image
            rng = np.random.default_rng(derive(seed, "memory_bank"))
            kept = np.sort(rng.choice(total, min(size, total), replace=False, shuffle=False))
        low, high = np.searchsorted(kept, [start, start + len(found) * per_image])
        parts.append(found.reshape(-1, found.shape[-1])[kept[low:high] - start])
        start += len(found) * per_image
    return np.concatenate(parts)


def patch_distances(encoder: Encoder, reference_images: np.ndarray, images: np.ndarray, *, size: int = BANK_PATCHES,
                    seed: int = 0) -> np.ndarray:
    """(N, h, w) float32 Euclidean distance, >= 0, of each patch to its nearest in the reference's ``memory_bank``.

    Unit: the bank's own spread (root mean square distance to its mean), so that trials compare; 1 is far. Images are
    uint8 (N, 3, H, H) at any size; ``reference_images`` should be mostly normal. Nothing is left out: a patch that is
    itself in the bank has distance 0. Same inputs give the same distances. Raises ``ValueError`` for images of another
    form and networks without a feature map.
    """
    device = next(encoder.parameters()).device
    bank = torch.from_numpy(memory_bank(encoder, reference_images, size=size, seed=seed)).to(device)
    centre = bank.mean(0)
    bank = bank - centre
    spread = bank.square().sum(1).mean().sqrt().clamp(min=torch.finfo(bank.dtype).tiny)
    maps = []
    for found in _batches(encoder, images):
        queries = torch.from_numpy(found).to(device).flatten(0, 2) - centre
        with full_float32():
            rows = max(1, _DISTANCES // len(bank))
            nearest = [torch.cdist(part, bank).amin(1) for part in torch.split(queries, rows)]
        maps.append((torch.cat(nearest) / spread).reshape(found.shape[:3]).cpu().numpy())
    return np.concatenate(maps)


def _batches(encoder: Encoder, images: np.ndarray) -> Iterator[np.ndarray]:
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3] or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 (N, 3, H, H), got {images.dtype} {images.shape}")
    if not len(images):
        raise ValueError("there are no images")
    device = next(encoder.parameters()).device
    for start in range(0, len(images), BATCH):
        yield patch_features(encoder, torch.from_numpy(images[start:start + BATCH]).to(device)).cpu().numpy()
