"""Patch maps of one trial: real encoder and store, made-up pictures with a planted square."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ablation.analysis import patch_map
from ablation.analysis.contact_sheet import THUMBNAIL
from ablation.analysis.patch_map import overlay, patch_maps
from ablation.results import StudyResults
from ablation.store import StudyStore
from tests.trainers.evaluation.planted import SQUARE, planted
from trainers.backbones import build_backbone
from trainers.data.views import Normalization
from trainers.export import save_encoder

KEY = "simclr-resnet18-p0.1-s0-00000000"
TEST, TRAIN = [f"test{i}.png" for i in range(8)], [f"train{i}.png" for i in range(50)]
CONSTANTS = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture
def results(tmp_path: Path) -> StudyResults:
    study = StudyStore(tmp_path / "studies" / "demo")
    cell = {"method": "simclr", "backbone": "resnet18", "imbalance": 0.1, "seed": 0}
    study.write_plan({"trials": [{"key": KEY, **cell}]})
    study.write_trial(KEY, {"key": KEY, "config": {"data": {"cache_size": 64}}})
    folder = study.trial_dir(KEY)
    torch.manual_seed(0)
    save_encoder(folder / "encoder.safetensors", build_backbone("resnet18", 48), CONSTANTS)
    label = np.arange(50) < 2
    pd.DataFrame({"image_id": TRAIN, "label": label.astype(np.int8), "defect_type": np.where(label, "RB", "")}
                 ).to_parquet(folder / "manifest.parquet")
    label = np.arange(8) < 6
    pd.DataFrame({"image_id": TEST, "split": "test", "label": label.astype(np.int8),
                  "defect_type": np.where(label, "RB", None), "score_probe": np.linspace(1, 0, 8, dtype=np.float32)}
                 ).to_parquet(folder / "scores.parquet")
    return StudyResults(study)


PIXELS, CENTRES = planted(8, 64, seed=2, squares=6)


def load(image_ids: list[str]) -> list[np.ndarray]:
    reference, _ = planted(50, 64, seed=1, squares=2)
    pixels = dict(zip([*TEST, *TRAIN], [*PIXELS, *reference], strict=True))
    return [pixels[name].transpose(1, 2, 0) for name in image_ids]


def decoded(uri: str) -> np.ndarray:
    head, body = uri.split(",", 1)
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB"), float)


def saturation(uri: str) -> np.ndarray:
    pixels = decoded(uri)
    return np.asarray(pixels.max(2) - pixels.min(2))


def test_the_colour_lies_on_the_planted_square(results: StudyResults) -> None:
    found = patch_maps(results, KEY, TEST[:6], load)
    assert found.problem == ""
    assert [m.picture.image_id for m in found.maps] == TEST[:6]
    near = []
    for shown, centre in zip(found.maps, CENTRES, strict=True):
        place = np.unravel_index(saturation(shown.overlay).argmax(), (THUMBNAIL, THUMBNAIL))
        cell = 64 / 6  # layer 3 at 48 px
        near.append(np.abs(np.array(place) * 64 / THUMBNAIL - centre).max() <= SQUARE / 2 + cell)
    assert np.mean(near) >= 0.8


def test_pictures_say_what_is_true_and_the_reference_is_counted(results: StudyResults) -> None:
    found = patch_maps(results, KEY, [TEST[7], TEST[0]], load)
    assert [(m.picture.truth, m.picture.score) for m in found.maps] == [("normal", 0.0), ("defect: RB", 1.0)]
    assert (found.num_reference, found.num_reference_defects) == (50, 2)
    assert 0 <= found.low < found.high == max(m.peak for m in found.maps)
    assert all(decoded(m.picture.uri).shape == (64, 64, 3) for m in found.maps)
    assert patch_maps(results, KEY, [TEST[7], TEST[0]], load) == found


def test_the_reference_is_a_choice_by_hash_that_grows_with_its_size(results: StudyResults) -> None:
    asked: list[list[str]] = []

    def spy(image_ids: list[str]) -> list[np.ndarray]:
        asked.append(image_ids[1:])
        return load(image_ids)

    for count in (5, 20):
        assert patch_maps(results, KEY, TEST[:1], spy, reference=count).num_reference == count
    small, large = asked
    assert large[:5] == small
    assert small != TRAIN[:5]
    assert set(large) <= set(TRAIN)


def gone(image_ids: list[str]) -> list[np.ndarray]:
    raise OSError("the disk is away\nand more")


def test_what_is_missing_is_said_in_one_line(results: StudyResults) -> None:
    folder = results.store.trial_dir(KEY)
    assert patch_maps(results, KEY, TEST, gone).problem == "No maps: the disk is away"
    assert "no trial 'other'" in patch_maps(results, "other", TEST, load).problem
    assert patch_maps(results, KEY, [TRAIN[0]], load).problem  # no test image
    (folder / "encoder.safetensors").write_bytes(b"no encoder")
    assert "not an encoder" in patch_maps(results, KEY, TEST, load).problem
    for name in ("encoder.safetensors", "manifest.parquet", "scores.parquet"):
        (folder / name).unlink()
        found = patch_maps(results, KEY, TEST, load)
        assert found.problem.startswith("No maps: ")
        assert "\n" not in found.problem
        assert found.maps == []


def test_no_images_asked_for_is_said_too(results: StudyResults) -> None:
    assert patch_maps(results, KEY, [], load).problem == "No maps: there are no images to show"


def test_overlay_is_grey_at_the_low_end_and_coloured_on_one_scale() -> None:
    image = np.full((30, 60, 3), (200, 90, 20), np.uint8)
    low = decoded(overlay(image, np.zeros((4, 4)), 0.0, 1.0))
    assert low.shape == (THUMBNAIL // 2, THUMBNAIL, 3)
    assert np.ptp(low, axis=2).max() <= 3
    half, full = (saturation(overlay(image, np.full((4, 4), value), 0.0, 1.0)).mean() for value in (0.5, 0.9))
    assert half > 20
    assert abs(half - full) > 10  # the same distance looks the same in every picture, another one does not
    assert overlay(image, np.full((4, 4), 9.0), 0.0, 1.0) == overlay(image, np.full((4, 4), 1.0), 0.0, 1.0)


def test_overlay_puts_the_map_where_its_patches_are() -> None:
    distances = np.zeros((4, 4))
    distances[0, 3] = 1.0
    colour = saturation(overlay(np.full((64, 64, 3), 128, np.uint8), distances, 0.0, 1.0))
    row, column = np.unravel_index(colour.argmax(), colour.shape)
    assert row < THUMBNAIL / 4
    assert column > 3 * THUMBNAIL / 4
    assert colour[THUMBNAIL // 2:].max() <= 4


def test_equal_distances_give_a_picture_not_an_error() -> None:
    assert decoded(overlay(np.full((8, 8, 3), 50, np.uint8), np.full((4, 4), 0.3), 0.3, 0.3)).shape == (112, 112, 3)


def test_the_legend_rises_in_lightness() -> None:
    light = [sum(w * int(c[i:i + 2], 16) for w, i in ((0.2126, 1), (0.7152, 3), (0.0722, 5)))
             for c in patch_map.scale_colors(7)]
    assert len(light) == 7
    assert light == sorted(light)
