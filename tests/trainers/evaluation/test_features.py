"""Feature extraction: order, mode, dtype."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from trainers.data.views import Normalization
from trainers.evaluation.features import embed, extract, frozen

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
IMAGES = np.random.default_rng(0).integers(0, 256, size=(23, 3, 16, 16), dtype=np.uint8)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(0.5),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten())


def run(encode: nn.Module, positions: np.ndarray, batch_size: int,
        precision: torch.dtype = torch.float32) -> np.ndarray:
    normalize = Normalization(MEAN, STD)
    return extract(encode, lambda chosen: IMAGES[chosen], positions, 16, "cpu", normalize, batch_size, precision)


def test_rows_follow_the_positions_whatever_the_batch_size() -> None:
    positions = np.array([7, 3, 22, 3, 0, 11, 19])
    model = network()
    features = run(model, positions, 3)
    assert features.dtype == np.float32
    assert features.shape == (7, 5)
    one_by_one = np.concatenate([run(model, positions[i:i + 1], 1) for i in range(len(positions))])
    assert np.allclose(features, one_by_one, atol=1e-6)
    assert np.array_equal(features[1], features[3])


def test_pixels_are_normalised_with_the_data_sets_statistics() -> None:
    features = run(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), np.array([4]), 8)
    expected = (IMAGES[4].mean((1, 2)) / 255 - np.array(MEAN)) / np.array(STD)
    assert np.allclose(features[0], expected, atol=1e-4)


def test_the_network_is_evaluated_frozen_and_comes_back_as_it_was() -> None:
    model = network()
    model[1].eval()  # a part that is kept in eval mode while the rest trains
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = run(model, np.arange(10), 4), run(model, np.arange(10), 4)
    assert np.array_equal(first, second)  # no dropout
    assert [module.training for module in model] == [True, False, True, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_frozen_restores_modes_after_an_error() -> None:
    model = network()
    try:
        with frozen(model):
            assert not model[3].training
            assert torch.is_inference_mode_enabled()
            raise KeyError
    except KeyError:
        pass
    assert model[3].training
    assert not torch.is_inference_mode_enabled()


def test_low_precision_still_gives_float32_close_to_the_exact_features() -> None:
    model = network()
    exact, reduced = run(model, np.arange(8), 4), run(model, np.arange(8), 4, torch.bfloat16)
    assert reduced.dtype == np.float32
    assert not np.array_equal(exact, reduced)
    assert np.allclose(exact, reduced, atol=0.05)


def test_embeddings_come_from_features_in_order() -> None:
    head = nn.Linear(4, 2)
    features = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    with frozen(head):
        found = embed(head, features, "cpu", batch_size=3)
        expected = head(torch.from_numpy(features)).numpy()
    assert np.allclose(found, expected, atol=1e-6)


def test_no_positions_give_no_rows() -> None:
    assert len(run(network(), np.array([], int), 4)) == 0
