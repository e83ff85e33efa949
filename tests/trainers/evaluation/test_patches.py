"""Patch distances of real (untrained) encoders: shapes, the planted square, the bank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.trainers.evaluation.planted import found, planted
from trainers.backbones import build_backbone
from trainers.data.views import Normalization, center_view
from trainers.evaluation.patches import memory_bank, patch_distances, patch_features
from trainers.export import Encoder

CONSTANTS = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def encoder(name: str, size: int = 64) -> Encoder:
    torch.manual_seed(0)
    return Encoder(build_backbone(name, size), CONSTANTS)


@pytest.mark.parametrize(("name", "size", "shape"), [
    ("resnet18", 64, (8, 8, 256)),  # layer 3
    ("resnet18", 32, (4, 4, 256)),
    ("resnet18", 16, (4, 4, 128)),  # layer 3 has 2 x 2 cells
    ("vit_tiny", 64, (8, 8, 192)),
    ("convnext_atto", 64, (4, 4, 160)),  # neither: the deepest map of timm with 4 x 4 cells
])
def test_shape_of_the_features(name: str, size: int, shape: tuple[int, int, int]) -> None:
    images, _ = planted(2, 40, seed=0, squares=0)  # any side: resized as in evaluation
    features = patch_features(encoder(name, size), torch.from_numpy(images))
    assert features.shape == (2, *shape)
    assert features.dtype == torch.float32


def test_resnet_features_are_timms_map_averaged_over_neighbours() -> None:
    model = encoder("resnet18")
    images = torch.from_numpy(planted(2, 64, seed=1, squares=1)[0])
    with torch.inference_mode():
        net = model.backbone.net
        x = net.maxpool(net.act1(net.bn1(net.conv1(center_view(images, 64, CONSTANTS)))))
        x = net.layer3(net.layer2(net.layer1(x)))
        ones = torch.ones(1, 1, 3, 3)
        total = F.conv2d(x.flatten(0, 1)[:, None], ones, padding=1).view_as(x)
        mean = total / F.conv2d(torch.ones_like(x[:1, :1]), ones, padding=1)
    assert torch.allclose(patch_features(model, images), mean.permute(0, 2, 3, 1), atol=1e-5)


def test_vit_features_are_the_patch_tokens_that_the_encoder_averages() -> None:
    model = encoder("vit_tiny")
    images = torch.from_numpy(planted(2, 64, seed=1, squares=1)[0])
    assert torch.allclose(patch_features(model, images).mean((1, 2)), model(images), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny"])
def test_the_largest_distance_lies_at_the_planted_square(name: str) -> None:
    """The reference holds 4 % planted images, as a contaminated pre-training subset does. Chance is under 20 %."""
    model = encoder(name)
    reference, _ = planted(50, 64, seed=1, squares=2)
    images, centres = planted(70, 64, seed=2, squares=60)
    distances = patch_distances(model, reference, images)
    assert distances.shape == (70, 8, 8)
    assert distances.dtype == np.float32
    assert np.isfinite(distances).all()
    assert distances.min() >= 0
    assert found(distances[:60], centres, 64).mean() >= 0.8
    assert np.median(distances[:60].max((1, 2))) > np.median(distances[60:].max((1, 2)))


def test_the_same_inputs_give_the_same_distances() -> None:
    model = encoder("resnet18", 32)
    reference, images = planted(10, 32, seed=1, squares=0)[0], planted(3, 32, seed=2, squares=3)[0]
    assert np.array_equal(patch_distances(model, reference, images), patch_distances(model, reference, images))


def test_patches_of_the_bank_have_no_distance_and_others_have() -> None:
    model = encoder("resnet18", 32)
    reference, _ = planted(30, 32, seed=3, squares=0)
    assert patch_distances(model, reference, reference).max() < 5e-3
    assert patch_distances(model, reference, planted(5, 32, seed=4, squares=5)[0]).max() > 0.1


def test_the_bank_is_a_random_choice_of_all_patches_by_seed() -> None:
    model = encoder("resnet18", 32)
    reference, _ = planted(70, 32, seed=5, squares=0)  # more than one batch
    whole = memory_bank(model, reference)
    assert whole.shape == (70 * 16, 256)
    features = patch_features(model, torch.from_numpy(reference)).reshape(-1, 256).numpy()
    assert np.allclose(whole, features, atol=1e-5)
    part = memory_bank(model, reference, size=100)
    assert part.shape == (100, 256)
    rows = np.array([np.flatnonzero((whole == row).all(1))[0] for row in part])
    assert len(set(rows)) == 100
    assert rows.min() < 160 < 960 < rows.max()  # from first images to last
    assert np.array_equal(part, memory_bank(model, reference, size=100))
    assert not np.array_equal(part, memory_bank(model, reference, size=100, seed=1))


def test_distances_do_not_depend_on_the_other_images() -> None:
    model = encoder("resnet18", 32)
    reference, images = planted(20, 32, seed=6, squares=1)[0], planted(70, 32, seed=7, squares=70)[0]
    together = patch_distances(model, reference, images)
    assert np.allclose(together[66:], patch_distances(model, reference, images[66:]), atol=1e-3)


@pytest.mark.parametrize("images", [
    np.zeros((0, 3, 8, 8), np.uint8), np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 3, 8, 9), np.uint8),
    np.zeros((1, 3, 8, 8), np.float32)], ids=["none", "channels last", "not square", "floats"])
def test_images_of_another_form_are_refused(images: np.ndarray) -> None:
    good = planted(2, 32, seed=0, squares=0)[0]
    model = encoder("resnet18", 32)
    for reference, shown in ((images, good), (good, images)):
        with pytest.raises(ValueError, match="images"):
            patch_distances(model, reference, shown)


def test_a_network_without_a_fine_map_is_refused() -> None:
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="no map of 4 x 4 cells for 4-px"):
        patch_features(encoder("resnet18", 4), images)
