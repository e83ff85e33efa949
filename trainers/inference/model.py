"""Encoder, linear probe and threshold as one module: uint8 images in, probability of a defect and decision out.

Shapes: B images, H x W pixels, s side of the network's input, D features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

FORMAT_VERSION = 1
BATCH = 64


class DefectModel(nn.Module):
    """A frozen network, its preprocessing, a probe on its features and a threshold.

    ``description`` is the content of ``model.json``, ``probe`` float64 ``mean``, ``std``, ``weight`` (D,) and ``bias``
    (1,): logit = weight . (features - mean) / std + bias.
    """

    mean: Tensor
    rest: Tensor
    weight: Tensor
    bias: Tensor
    pixel_mean: Tensor | None
    pixel_std: Tensor | None

    def __init__(self, network: nn.Module, description: Mapping[str, Any], probe: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.description = dict(description)
        self.image_size = int(description["image_size"])
        self.input_size = int(description["input_size"])
        self.threshold = float(description["decision"]["threshold"])
        pixels = description["normalize"]
        for name in ("mean", "std"):
            values = None if pixels[name] is None else torch.tensor(pixels[name], dtype=torch.float32)[:, None, None]
            self.register_buffer(f"pixel_{name}", values)
        mean = probe["mean"].float()
        self.register_buffer("mean", mean)
        # What float32 cannot hold of the mean: subtracted next, so that features standardise as in float64.
        self.register_buffer("rest", (probe["mean"] - mean.double()).float())
        self.register_buffer("weight", (probe["weight"] / probe["std"]).float())
        self.register_buffer("bias", probe["bias"].float())
        self.eval()

    @classmethod
    def load(cls, folder: str | Path) -> DefectModel:
        """From a folder with ``model.json``, ``model.safetensors`` and ``probe.safetensors``."""
        description = json.loads((Path(folder) / "model.json").read_text())
        if description.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"{folder}: model.json has format version {description.get('format_version')}, "
                             f"this code reads {FORMAT_VERSION}")
        wanted = description["network"]
        net = timm.create_model(wanted["name"], **wanted["arguments"])
        if wanted["small_stem"]:
            net.conv1 = nn.Conv2d(3, net.conv1.out_channels, kernel_size=3, stride=2, padding=1, bias=False)
            net.maxpool = nn.Identity()
        net.load_state_dict(load_file(Path(folder) / "model.safetensors"), strict=True)
        network = PatchTokens(net) if wanted["features"] == "patch_tokens" else net
        return cls(network, description, load_file(Path(folder) / "probe.safetensors"))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, 3, H, W) -> score (B,) float32 in 0..1, and defect (B,) bool: score >= threshold.

        Any H and W; the numbers of training come from H = W = ``input_size``, resized as ``pixels.read_image`` does.
        """
        score = self.probe(self.features(images))
        return score, score >= self.threshold

    def features(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) -> (B, D) float32."""
        return cast(Tensor, self.network(self.view(images))).float()

    def view(self, images: Tensor) -> Tensor:
        """The whole image, resized with antialias and normalised: (B, 3, H, W) uint8 -> (B, 3, s, s) float32."""
        pixels = images.float() / 255.0
        rows = resize_weights(images.shape[2], self.image_size, pixels)
        columns = resize_weights(images.shape[3], self.image_size, pixels)
        pixels = rows @ pixels @ columns.transpose(0, 1)
        if self.pixel_mean is not None and self.pixel_std is not None:
            return (pixels - self.pixel_mean) / self.pixel_std
        for _ in range(2):  # what rounding leaves of the mean, a flat picture's small deviation would blow up
            pixels = pixels - mean_of_image(pixels)
        std = mean_of_image(pixels.square()).sqrt()
        return pixels / std.clamp(min=(3 * self.image_size**2) ** -0.5)

    def probe(self, features: Tensor) -> Tensor:
        """(B, D) -> (B,) probability of a defect, at the prevalence of the training images."""
        return torch.sigmoid((features - self.mean - self.rest) @ self.weight + self.bias)

    @torch.inference_mode()
    def scores(self, images: np.ndarray) -> np.ndarray:
        """(N,) float32 of uint8 images (N, 3, H, W)."""
        device = self.weight.device
        batches = [torch.from_numpy(images[start:start + BATCH]).to(device) for start in range(0, len(images), BATCH)]
        return np.concatenate([np.empty(0, np.float32), *(self(batch)[0].cpu().numpy() for batch in batches)])


class PatchTokens(nn.Module):
    """A timm ViT with the mean of its normalised patch tokens as features."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, s, s) -> (B, D)."""
        net = cast(Any, self.net)
        return cast(Tensor, net.forward_features(pixels)[:, net.num_prefix_tokens:].mean(1))


def mean_of_image(pixels: Tensor) -> Tensor:
    """(B, 3, s, s) -> (B, 1, 1, 1). Axis by axis: a runtime that sums plainly would lose digits over all of them."""
    return pixels.mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True)


def resize_weights(source: int, size: int, like: Tensor) -> Tensor:
    """(size, source) triangle filter, widened when shrinking (antialias); rows sum to 1."""
    scale = torch.ones((), dtype=like.dtype, device=like.device) * source / size
    support = scale.clamp(min=1.0)
    centers = (torch.arange(size, device=like.device)[:, None] + 0.5) * scale
    taps = torch.arange(source, device=like.device)[None, :] + 0.5
    weights = (1 - (taps - centers).abs() / support).clamp(min=0)
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
