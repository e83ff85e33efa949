"""The masked ResNet never sees hidden cells, and with nothing hidden is the plain network."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from timm.models.resnet import ResNet
from torch import Tensor

from trainers.backbones import build_backbone
from trainers.config import ConfigError
from trainers.methods import build_method
from trainers.methods.masked_resnet import masked_mean, stage_maps
from trainers.methods.masking import MaskGeometry, enlarge, mask_geometry, visible_cells, visible_map

SIZE, GEOMETRY = 64, MaskGeometry(cell=16, grid=4, num_masked=10)


def network(seed: int = 0, name: str = "resnet18") -> ResNet:
    torch.manual_seed(seed)
    return cast(ResNet, build_backbone(name, SIZE).double().net)


def images(seed: int = 0) -> Tensor:
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cells(first_key: int = 0, geometry: MaskGeometry = GEOMETRY) -> Tensor:
    return visible_map(visible_cells(torch.arange(first_key, first_key + 3) * 7919, geometry), geometry)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_hidden_positions_are_exactly_zero_at_every_stage(name: str) -> None:
    visible = cells()
    for features in stage_maps(network(name=name), images(), visible):
        hidden = ~enlarge(visible, features.shape[-1]).expand_as(features)
        assert (features[hidden] == 0).all()
        assert (features[~hidden] != 0).any()


@pytest.mark.parametrize("training", [True, False])
def test_hidden_pixels_never_reach_the_output_or_the_running_statistics(training: bool) -> None:
    visible = cells()
    noise = 100 * images(1) * ~enlarge(visible, SIZE)
    first, second = network().train(training), network().train(training)
    for clean, noisy in zip(stage_maps(first, images(), visible), stage_maps(second, images() + noise, visible),
                            strict=True):
        assert torch.equal(clean, noisy)
    for clean, noisy in zip(first.buffers(), second.buffers(), strict=True):
        assert torch.equal(clean, noisy)


@pytest.mark.parametrize("training", [True, False])
def test_with_nothing_hidden_it_is_the_plain_network(training: bool) -> None:
    masked, plain = network().train(training), network().train(training)
    everything = torch.ones(3, 1, 4, 4, dtype=torch.bool)
    maps = stage_maps(masked, images(), everything)
    torch.testing.assert_close(maps[-1], plain.forward_features(images()), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(maps, stage_maps(network().train(training), images()), rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(masked.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_statistics_are_those_of_the_visible_positions() -> None:
    """First layer by hand: mean and unbiased variance over what the convolution gives at visible positions."""
    net, visible = network().train(), cells()
    seen = images() * enlarge(visible, SIZE)
    with torch.no_grad():
        out = net.conv1(seen)
        values = out.permute(0, 2, 3, 1)[enlarge(visible, out.shape[-1])[:, 0]]
        stage_maps(net, images(), visible)
    torch.testing.assert_close(net.bn1.running_mean, 0.1 * values.mean(0))
    torch.testing.assert_close(net.bn1.running_var, 0.9 + 0.1 * values.var(0))


def test_two_models_in_one_process_do_not_mix() -> None:
    one, other = network(0), network(1)
    alone = stage_maps(one, images(), cells(0))[-1].sum(), stage_maps(other, images(), cells(50))[-1].sum()
    one, other = network(0), network(1)
    first = stage_maps(one, images(), cells(0))[-1].sum()
    second = stage_maps(other, images(), cells(50))[-1].sum()
    weights = one.conv1.weight, other.conv1.weight
    interleaved = torch.autograd.grad(first, weights[0])[0], torch.autograd.grad(second, weights[1])[0]
    assert torch.equal(first, alone[0])
    assert torch.equal(second, alone[1])
    single = network(0)
    expected = torch.autograd.grad(stage_maps(single, images(), cells(0))[-1].sum(), single.conv1.weight)[0]
    assert torch.equal(interleaved[0], expected)


def test_features_are_the_mean_over_visible_cells() -> None:
    visible = cells()
    last = stage_maps(network(), images(), visible)[-1]
    expected = torch.stack([last[i, :, visible[i, 0]].mean(1) for i in range(3)])
    torch.testing.assert_close(masked_mean(last, visible), expected)


def test_masks_are_functions_of_the_key_with_equal_counts() -> None:
    keys = torch.arange(200) * 104_729
    whole = visible_cells(keys, GEOMETRY)
    assert torch.equal(visible_cells(keys[50:60], GEOMETRY), whole[50:60])
    maps = visible_map(whole, GEOMETRY)
    assert (maps.sum((1, 2, 3)) == GEOMETRY.num_visible).all()
    share = maps.double().mean((0, 1))
    assert (share - 6 / 16).abs().max() < 0.12  # no cell is favoured: 3.5 standard errors of 200 draws
    assert len({tuple(row.flatten().tolist()) for row in maps}) > 150


def test_cells_are_the_total_stride_and_ratios_those_of_the_papers() -> None:
    small, large = build_backbone("resnet18", 64), build_backbone("resnet18", 224)
    assert mask_geometry(small, None, "mae") == MaskGeometry(16, 4, 10)
    assert mask_geometry(large, None, "mae") == MaskGeometry(32, 7, 29)
    assert mask_geometry(build_backbone("resnet18", 32), None, "mae") == MaskGeometry(16, 2, 2)
    assert mask_geometry(build_backbone("vit_tiny", 64), None, "mae") == MaskGeometry(8, 8, 48)


def test_networks_that_cannot_be_masked_are_refused() -> None:
    with pytest.raises(ConfigError, match="plain ResNet"):
        build_method("mae", build_backbone("seresnet18", 64), {})
