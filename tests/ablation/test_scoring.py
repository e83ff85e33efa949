"""An encoder of a finished trial finds the odd image out, with and without reference images."""

from __future__ import annotations

import numpy as np
import pytest

import ablation
from ablation.errors import DataError
from ablation.store import StudyStore
from trainers.backbones import build_backbone
from trainers.data.views import Normalization
from trainers.export import save_encoder

KEY = "simclr-resnet18-p0.1-s0-00000000"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> ablation.StudyResults:
    store = StudyStore(tmp_path_factory.mktemp("store") / "study")
    store.write_plan(
        {"trials": [{"key": KEY, "method": "simclr", "backbone": "resnet18", "imbalance": 0.1, "seed": 0}]}
    )
    store.write_result(KEY, {"metrics": {"probe/auroc": 0.5}})
    save_encoder(store.trial_dir(KEY) / "encoder.safetensors", build_backbone("resnet18", 32),
                 Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))
    return ablation.load_study("study", store=store.path.parent)


def images(count: int, seed: int) -> np.ndarray:
    """Dark noise, uint8 (count, 3, 32, 32)."""
    return np.random.default_rng(seed).integers(0, 40, (count, 3, 32, 32)).astype(np.uint8)


def test_the_odd_image_has_the_highest_score(results: ablation.StudyResults) -> None:
    encoder = results.encoder(KEY)
    queries = images(12, 1)
    queries[7, :, ::2] = 255  # bright stripes
    for reference in (None, images(20, 2)):
        scores = ablation.score(encoder, queries, reference)
        assert scores.dtype == np.float32
        assert scores.argmax() == 7
        assert scores[7] > 2 * np.delete(scores, 7).max()


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((2, 32, 32, 3), np.uint8),
        ((2, 3, 32, 32), np.float32),
        ((3, 32, 32), np.uint8),
        ((0, 3, 32, 32), np.uint8),
        ((1, 3, 32, 32), np.uint8),
    ],
)
def test_images_of_another_form_are_refused(
    results: ablation.StudyResults, shape: tuple[int, ...], dtype: type
) -> None:
    with pytest.raises(ValueError, match="images"):
        ablation.score(results.encoder(KEY), np.zeros(shape, dtype))


def test_a_damaged_encoder_is_one_line(results: ablation.StudyResults) -> None:
    path = results.store.trial_dir(KEY) / "encoder.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    try:
        with pytest.raises(DataError, match="not an encoder exported by this project"):
            results.encoder(KEY)
    finally:
        path.write_bytes(whole)
