"""The matrix product is the convolution: values, gradients, names."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from trainers.backbones import build_backbone
from trainers.convolution import MatrixConv2d, use_matrix_products


@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "bias"), [
    (2, 3, 1, 1, False), (4, 3, 2, 1, False), (4, 1, 2, 0, False), (4, 3, 1, 1, True), (7, 5, 2, 2, True),
    (6, 3, 1, 0, False), (9, 3, 1, 1, False),
])
def test_values_and_gradients_are_those_of_conv2d(size: int, kernel: int, stride: int, padding: int,
                                                  bias: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(5, 7, kernel, stride, padding, bias=bias), nn.ReLU(inplace=True)).double()
    plain = copy.deepcopy(net)
    use_matrix_products(net)
    assert type(net[0]) is MatrixConv2d
    images = torch.randn(3, 5, size, size, dtype=torch.float64)
    ours, theirs = images.clone().requires_grad_(), images.clone().requires_grad_()
    out, expected = net(ours), plain(theirs)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(expected)
    out.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)
    for mine, other in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-12, atol=1e-12)


def test_parameters_stay_the_same_objects_under_the_same_names() -> None:
    net = timm.create_model("resnet18", num_classes=0)
    before = dict(net.named_parameters())
    use_matrix_products(net)
    after = dict(net.named_parameters())
    assert list(before) == list(after)
    assert all(after[name] is parameter for name, parameter in before.items())
    assert sum(isinstance(module, MatrixConv2d) for module in net.modules()) == 20


def test_what_it_cannot_do_stays_torchs() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, dilation=2),
                        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.Conv2d(4, 4, 3, padding="same"))
    use_matrix_products(net)
    assert all(type(module) is nn.Conv2d for module in net)


def test_bf16_gradients_over_one_position_are_those_of_float32() -> None:
    """Torch's own weight gradient for such a convolution (of timm's ``test_resnet`` at 16 px) is left in memory by
    others: not finite, or wrong by orders of magnitude, in nine of ten tries (torch 2.15, oneDNN, AVX-512)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(192, 96, 3, stride=2, padding=1, bias=False))
    use_matrix_products(net)
    images, upstream = (torch.randn(64, width, 1, 1).bfloat16() for width in (192, 96))
    expected = torch.autograd.grad(net(images.float()), net[0].weight, upstream.float())[0]
    for _ in range(20):
        left = [torch.full((length,), float("nan")) for length in (64, 4096, 100_000, 165_888, 400_000)]
        del left
        with torch.autocast("cpu", torch.bfloat16):
            out = net(images)
        gradient = torch.autograd.grad(out, net[0].weight, upstream)[0]
        torch.testing.assert_close(gradient, expected, rtol=0.02, atol=0.02)


def test_every_backbone_with_convolutions_works_this_way() -> None:
    for name in ("resnet18", "test_resnet"):
        assert any(isinstance(module, MatrixConv2d) for module in build_backbone(name, 16).modules())
