"""From images to features: the only file of the evaluation that runs the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from trainers.data.prefetch import Uploader
from trainers.data.views import Normalization, ViewSpec, augment, center_view
from trainers.machine import full_float32


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Modules in eval mode without gradients; afterwards every submodule has the mode it had before."""
    modes = [(module, module.training) for root in modules for module in root.modules()]
    try:
        for root in modules:
            root.eval()
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def extract(
    encode: Callable[[Tensor], Tensor],
    gather: Callable[[np.ndarray], np.ndarray],
    positions: np.ndarray,
    size: int,
    device: torch.device | str,
    normalize: Normalization,
    batch_size: int = 256,
    precision: torch.dtype = torch.float32,
) -> np.ndarray:
    """Features of the un-augmented images at ``positions``, in that order: (N, D) float32.

    ``gather(positions)`` gives uint8 (B, 3, S, S); ``encode`` maps normalised (B, 3, size, size) to (B, D) and is
    ``frozen`` here when it is a module; a plain callable is called as it is. ``precision`` is the autocast dtype.
    """

    def load(chunk: np.ndarray) -> list[Tensor]:
        return [torch.from_numpy(gather(chunk))]

    return _features(encode, load, lambda images: center_view(images, size, normalize), positions, device, batch_size,
                     precision)


def extract_views(
    encode: Callable[[Tensor], Tensor],
    gather: Callable[[np.ndarray], np.ndarray],
    positions: np.ndarray,
    keys: np.ndarray,
    specs: list[ViewSpec],
    device: torch.device | str,
    normalize: Normalization,
    precision: torch.dtype = torch.float32,
) -> np.ndarray:
    """Features (N, q, D) float32 of q augmented views, one per spec, of the images at ``positions``.

    ``keys`` (N,) uint64 are the views' only randomness. The rest as in ``extract``.
    """
    known = dict(zip(positions.tolist(), keys.view(np.int64).tolist(), strict=True))

    def load(chunk: np.ndarray) -> list[Tensor]:
        return [torch.from_numpy(gather(chunk)), torch.tensor([known[position] for position in chunk.tolist()])]

    def draw(images: Tensor, image_keys: Tensor) -> Tensor:
        return torch.stack(augment(images, image_keys, specs, normalize), 1).flatten(0, 1)

    features = _features(encode, load, draw, positions, device, max(1, 256 // len(specs)), precision)
    return features.reshape(len(positions), len(specs), -1)


def _features(encode: Callable[[Tensor], Tensor], load: Callable[[np.ndarray], list[Tensor]],
              view: Callable[..., Tensor], positions: np.ndarray, device: torch.device | str, batch_size: int,
              precision: torch.dtype) -> np.ndarray:
    device = torch.device(device)
    modules = [encode] if isinstance(encode, nn.Module) else []
    reduced = precision != torch.float32
    outputs = []
    with frozen(*modules), torch.autocast(device.type, dtype=precision if reduced else None, enabled=reduced):
        chunks = [positions[start:start + batch_size] for start in range(0, len(positions), batch_size)]
        for loaded in Uploader(device).ahead(load, chunks):
            with torch.autocast(device.type, enabled=False), full_float32():  # the resize is exact in float32 only
                pixels = view(*loaded)
            with nullcontext() if reduced else full_float32():
                outputs.append(encode(pixels).float().cpu())
    return torch.cat(outputs).numpy() if outputs else np.empty((0, 0), np.float32)


def embed(head: Callable[[Tensor], Tensor], features: np.ndarray, device: torch.device | str,
          batch_size: int = 1024) -> np.ndarray:
    """Embeddings (N, K) float32 of features (N, D), without another pass through the backbone; see ``frozen``."""
    with torch.inference_mode():
        chunks = (torch.from_numpy(features[i:i + batch_size]) for i in range(0, len(features), batch_size))
        return torch.cat([head(chunk.to(device)).float().cpu() for chunk in chunks]).numpy()
