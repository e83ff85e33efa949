"""The trained encoder and its probe as safetensors files that say how to rebuild and feed them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from trainers import plugins
from trainers.atomic import replace_file
from trainers.backbones import SMALL_IMAGE, Backbone, build_backbone, timm_name
from trainers.config import ConfigError
from trainers.data.index import DataError
from trainers.data.views import Normalization, center_view

if TYPE_CHECKING:
    from trainers.evaluation.probe import ProbeWeights
from trainers.names import short_name

OWN = "own"
"""``features`` of a network that only a plug-in's code can build."""


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
    weights, facts = _read(path, "an encoder")
    try:
        with plugins.foreign():
            name = plugins.kept("backbones", facts["backbone"], path.parent / "code")
            backbone = build_backbone(name, facts["image_size"])
    except ConfigError as error:
        raise DataError(f"{path}: its backbone cannot be built: {error.message}") from None
    backbone.net.load_state_dict(weights, strict=True)
    constants = {name: values and tuple(values) for name, values in facts["normalize"].items()}
    return Encoder(backbone, Normalization(**constants))


def save_probe(path: Path, probe: ProbeWeights, thresholds: dict[str, dict[str, float]]) -> None:
    """Write ``mean``, ``std``, ``weight`` (D,) and ``bias`` (1,), float64, and what they mean; atomically.

    ``thresholds``: name -> value, and the prevalence and beta of the F score that it is best for.
    """
    weights = {name: torch.from_numpy(getattr(probe, name)).contiguous() for name in ("mean", "std", "weight")}
    weights["bias"] = torch.tensor([probe.bias], dtype=torch.float64)
    facts = {"score": "sigmoid(weight . (features - mean) / std + bias): probability of a defect at the prevalence of "
                      "the training images", "defect": "score >= threshold", "C": probe.C, "thresholds": thresholds}
    content = save(weights, metadata={"ablation": json.dumps(facts)})
    replace_file(path, lambda handle: handle.write(content), sync=False)


def load_probe(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(weights, facts) as ``save_probe`` wrote them. Raises ``DataError`` for a missing or foreign file."""
    return _read(path, "a probe")


def describe_network(backbone: Backbone) -> dict[str, Any]:
    """How ``inference.model`` builds the same network with timm alone, for ``model.json``."""
    if plugins.is_plugin("backbones", backbone.name):
        return {"name": short_name(backbone.name), "arguments": {}, "small_stem": False, "features": OWN}
    arguments: dict[str, Any] = {"num_classes": 0}
    if backbone.kind == "vit":
        arguments |= {"img_size": backbone.image_size, "patch_size": backbone.patch_size}
    return {"name": timm_name(backbone.name), "arguments": arguments,
            "small_stem": backbone.kind == "resnet" and backbone.image_size < SMALL_IMAGE,
            "features": "patch_tokens" if backbone.kind == "vit" else "pooled"}


def _read(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["ablation"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{path}: not {what} exported by this project ({error})") from None
