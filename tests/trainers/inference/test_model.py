"""The module that exports carry computes what the trainer computes, from files alone, for both kinds of backbone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from trainers.backbones import build_backbone
from trainers.data.views import Normalization, center_view
from trainers.evaluation.probe import LinearProbe, PrincipalAxes
from trainers.export import describe_network, save_encoder, save_probe
from trainers.inference.model import DefectModel

CONSTANTS = Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))


@pytest.mark.parametrize(("name", "size", "normalize"), [
    ("resnet18", 16, Normalization()), ("vit_tiny", 16, CONSTANTS), ("resnet18", 112, CONSTANTS)])
def test_files_of_an_export_score_as_the_probe_does(tmp_path: Path, name: str, size: int,
                                                    normalize: Normalization) -> None:
    torch.manual_seed(0)
    backbone, side = build_backbone(name, size).eval(), size * 256 // 224
    coarse = torch.randint(0, 256, (12, 3, 4, 4), dtype=torch.uint8)  # noise would look all the same to the network
    images = torch.nn.functional.interpolate(coarse, size=(side, side), mode="nearest")
    with torch.inference_mode():
        view = center_view(images, size, normalize)
        features = backbone(view).numpy()
    probe = LinearProbe.fit(PrincipalAxes(features), np.arange(12) % 3 == 0, seed=0, C=1.0)
    save_encoder(tmp_path / "model.safetensors", backbone, normalize)
    save_probe(tmp_path / "probe.safetensors", probe.weights(), {})
    description = {"format_version": 1, "image_size": size, "input_size": side, "decision": {"threshold": 0.4},
                   "normalize": dataclasses.asdict(normalize), "network": describe_network(backbone)}
    (tmp_path / "model.json").write_text(json.dumps(description))
    model = DefectModel.load(tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(model.view(images), view, rtol=1e-5, atol=1e-5)
        score, defect = model(images)
    expected = 1 / (1 + np.exp(-probe.logits(features)))
    np.testing.assert_allclose(score.numpy(), expected, atol=1e-5)
    np.testing.assert_array_equal(defect.numpy(), expected >= 0.4)
