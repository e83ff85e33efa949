"""A calibration trains and evaluates for real, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from trainers.calibration import LEAST_STEPS, Drawn, measure
from trainers.config import DataConfig, EvaluationConfig, OptimConfig, TrainConfig

CONFIG = TrainConfig(
    method="simclr", backbone="resnet18", imbalance=0.1, data=DataConfig(dataset="digits", image_size=16),
    train=OptimConfig(epochs=50, batch_size=32), evaluation=EvaluationConfig(view_images=8, views_per_image=2, every=1))


def test_steps_evaluation_memory_and_files_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = measure(CONFIG, device="cpu", threads=1, seconds=0.01)
    assert found is not None
    assert 1 <= len(found.steps) <= LEAST_STEPS
    assert min(found.steps) > 0
    assert 0 < found.cpu_share <= 1
    assert found.conclude > 0
    assert 40 < found.files_mb < 60  # 11 million parameters in float32, 43 MiB, scores and a contact sheet
    assert found.checkpoint_mb > 2 * 40  # and their optimiser state
    assert found.peak_mb > 100
    assert found.feature_dim == 512
    assert found.num_embedded > 100
    assert list(tmp_path.iterdir()) == []


def test_drawn_pictures_have_both_classes_on_both_sides() -> None:
    data = Drawn(16, 24)
    cells = set(zip(data.index.splits.tolist(), data.index.labels.tolist(), strict=True))
    assert cells == {("train", 0), ("train", 1), ("val", 0), ("val", 1)}
    assert data.load(1).shape == (24, 24, 3)
    assert data.load(1).dtype == np.uint8
    assert data.load(1)[8:12, 8:12].mean() > data.load(0)[8:12, 8:12].mean() + 20
