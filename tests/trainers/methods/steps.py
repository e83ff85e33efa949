"""A tiny batch for any method, shared by the tests of methods and ranks.

``TESTED`` is what they run over: the built-in methods and the example of docs/own-method.md, or what the environment
variable ``TEST_METHODS`` names instead (comma separated; ``path.py:Class`` or registered by a package).
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import torch
from torch import nn

from trainers.backbones import build_backbone
from trainers.methods import METHODS, build_method, find_method, view_specs
from trainers.methods.base import AbstractMethod
from trainers.names import short_name
from trainers.records import Batch, Progress

EXAMPLE = f"{Path(__file__).parents[3] / 'docs' / 'examples' / 'vicreg.py'}:VICReg"
TESTED = {short_name(name): name for name in os.environ.get("TEST_METHODS", ",".join([*METHODS, EXAMPLE])).split(",")}
"""As test ids have it -> as a study file has it."""
SIZE, BATCH = 32, 6
BACKBONE_NAMES = ("resnet18", "vit_tiny")
MIDWAY = Progress(step=50, total_steps=100, epoch=10, total_epochs=20)
SMALL = {"hidden_dim": 64, "projection_dim": 32, "bottleneck_dim": 32, "num_prototypes": 48, "num_local_crops": 2,
         "decoder_dim": 32, "decoder_depth": 1}
"""Options that make heads small; each method takes those that it has."""


def options(name: str) -> dict[str, int]:
    known = {field.name for field in dataclasses.fields(find_method(TESTED[name]).Config)}
    return {key: value for key, value in SMALL.items() if key in known}


def tiny_method(name: str, backbone: str, dtype: torch.dtype = torch.float32) -> AbstractMethod:
    """Seeded, with no residual branch switched off: timm starts them with gain 0, which hides gradients behind it."""
    torch.manual_seed(0)
    method = build_method(TESTED[name], build_backbone(backbone, SIZE), options(name)).to(dtype).train()
    with torch.no_grad():
        for module in method.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
                module.weight.fill_(0.5)
    return method


def tiny_batch(name: str, dtype: torch.dtype = torch.float32, size: int = BATCH) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        views=[
            torch.randn(size, 3, spec.size, spec.size, generator=generator, dtype=torch.float64).to(dtype)
            for spec in view_specs(TESTED[name], options(name), SIZE)
        ],
        labels=torch.tensor([1, 0, 0, 0, 1, 1]).repeat(size // BATCH),
        keys=torch.randint(-(2**62), 2**62, (size,), generator=generator),
    )
