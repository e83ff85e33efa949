"""A new method costs one file, one import and one line in ``METHODS``: the suites above take it up by themselves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOY = '''
"""Toy: two views agree, and the embedding keeps its spread. A teaching example, not a published method."""

from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from trainers.distributed import all_reduce_sum, world_size
from trainers.methods.augmentations import symmetric_views
from trainers.methods.base import AbstractMethod
from trainers.methods.precision import in_float32
from trainers.records import StepOutput


@in_float32
def toy_loss(z_a, z_b):
    spread = all_reduce_sum(z_a.square().sum(0)) / (len(z_a) * world_size())
    return (z_a - z_b).square().mean() + (1 - spread).square().mean()


@final
class Toy(AbstractMethod):
    """Backbone and a linear projector."""

    summary = "example: two views agree and the embedding keeps its spread"
    paper = "none; compare VICReg, arXiv:2105.04906"
    family = "joint-embedding"

    @dataclass(frozen=True, kw_only=True)
    class Config(AbstractMethod.Config):
        projection_dim: int = 16

    def __init__(self, backbone, config):
        super().__init__()
        self.backbone = backbone
        self.projector = nn.Linear(backbone.feature_dim, config.projection_dim)

    @classmethod
    def views(cls, config, image_size):
        return symmetric_views(image_size, None)

    def forward(self, batch, progress):
        features = self.backbone(torch.cat(batch.views))
        return StepOutput(toy_loss(*self.projector(features).chunk(2)), features.detach())

    def embed(self, features):
        return self.projector(features)
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the toy in it."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("trainers", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    (root / "trainers" / "methods" / "toy.py").write_text(TOY)
    registry = root / "trainers" / "methods" / "__init__.py"
    text = registry.read_text()
    text = text.replace("\n\nMETHODS:", "\nfrom trainers.methods.toy import Toy\n\nMETHODS:", 1)
    text = text.replace('    "supervised": Supervised,\n', '    "supervised": Supervised,\n    "toy": Toy,\n', 1)
    registry.write_text(text)
    return root


def run(root: Path, *arguments: str) -> tuple[int, str]:
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = outer | {"PYTHONPATH": str(root), "RANK_TEST_METHODS": "toy"}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments], cwd=root,
                          env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_a_new_method_is_tested_without_a_new_test_file(copy: Path) -> None:
    suites = ("tests/conformance/test_methods.py", "tests/distributed")
    code, text = run(copy, *suites, "-k", "toy and not 3ranks")
    assert code == 0, text[-3000:]
    passed = re.search(r"(\d+) passed", text)
    assert passed is not None
    assert int(passed[1]) >= 20, text


def test_a_new_method_cannot_skip_the_golden_file(copy: Path) -> None:
    code, text = run(copy, "tests/golden", "-k", "toy")
    assert code == 1
    assert "a new entry: make golden" in text
