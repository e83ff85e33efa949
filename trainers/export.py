"""The trained encoder as a safetensors file that says how to rebuild and feed it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from trainers import plugins
from trainers.atomic import replace_file
from trainers.backbones import Backbone, build_backbone
from trainers.config import ConfigError
from trainers.data.index import DataError
from trainers.data.views import Normalization, center_view


class Encoder(nn.Module):
    """A frozen backbone with its preprocessing: uint8 images (B, 3, H, H) -> float32 features (B, D)."""

    def __init__(self, backbone: Backbone, normalize: Normalization) -> None:
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.normalize = normalize

    @property
    def feature_dim(self) -> int:
        return self.backbone.feature_dim

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(center_view(images, self.backbone.image_size, self.normalize))
        return features.float()


def save_encoder(path: Path, backbone: Backbone, normalize: Normalization) -> None:
    """Write ``net.`` weights (timm's own names) and the facts to rebuild; atomically."""
    weights = {name: value.detach().cpu().contiguous() for name, value in backbone.net.state_dict().items()}
    facts = {"backbone": backbone.name, "image_size": backbone.image_size, "normalize": asdict(normalize)}
    content = save(weights, metadata={"ablation": json.dumps(facts)})
    replace_file(path, lambda handle: handle.write(content), sync=False)


def load_encoder(path: Path) -> Encoder:
    """Rebuild an exported encoder (strictly). Raises ``DataError`` for a missing or foreign file."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["ablation"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{path}: not an encoder exported by this project ({error})") from None
    try:
        with plugins.foreign():
            name = plugins.kept("backbones", facts["backbone"], path.parent / "code")
            backbone = build_backbone(name, facts["image_size"])
    except ConfigError as error:
        raise DataError(f"{path}: its backbone cannot be built: {error.message}") from None
    backbone.net.load_state_dict(weights, strict=True)
    constants = {name: values and tuple(values) for name, values in facts["normalize"].items()}
    return Encoder(backbone, Normalization(**constants))
