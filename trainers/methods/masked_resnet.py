"""A timm ResNet that never sees hidden cells: sparse convolution by masking, after SparK (arXiv:2301.03580).

After every convolution, normalisation and pooling the hidden positions are set to zero, and batch statistics are those
of the visible positions (of all ranks). The network's modules and weights are used as they are, so the trained backbone
is a plain ResNet. Author code: keyu-tian/SparK, which keeps the mask in a module-level global; here it is an argument,
so that two models in one process cannot mix. Shapes: B images, g cells a side.
"""

from __future__ import annotations

from typing import cast

import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainers.backbones import Backbone
from trainers.config import ConfigError
from trainers.distributed import joint_batch_norm
from trainers.methods.masking import enlarge


def require_plain_resnet(backbone: Backbone, method: str) -> None:
    """Raise ``ConfigError`` unless masking can follow every operation of the network."""
    net = cast(ResNet, backbone.net)
    for block in (cast(BasicBlock, b) for stage in _stages(net) for b in stage):
        plain = type(block) in (BasicBlock, Bottleneck) and block.se is None and block.drop_path is None
        plain = plain and isinstance(block.bn1, _BatchNorm) and isinstance(block.aa, nn.Identity)
        shortcut = block.downsample
        if not plain or (shortcut is not None and not isinstance(shortcut[0], nn.Conv2d)):
            raise ConfigError("backbone", f"{method} needs a plain ResNet (resnet18, resnet34, resnet50 …), "
                                          f"not {backbone.name}")


def _stages(net: ResNet) -> list[nn.Sequential]:
    return [cast(nn.Sequential, getattr(net, f"layer{number}")) for number in range(1, 5)]


def stage_maps(net: ResNet, images: Tensor, visible: Tensor | None = None) -> list[Tensor]:
    """Feature maps of the four stages, (B, C, h, w) each, shallow first.

    ``visible`` (B, 1, g, g) bool with g the side of the last map: cells the network may look at; all other positions
    of every map are exactly 0 and no pixel there reaches the output. None = the ordinary dense network.
    """
    if visible is None:
        x = net.maxpool(net.act1(net.bn1(net.conv1(images))))
        maps = []
        for stage in _stages(net):
            x = stage(x)
            maps.append(x)
        return maps
    masks = _Masks(visible)
    x = net.act1(_conv_norm(net.conv1, net.bn1, images * masks.like(images), masks))
    x = net.maxpool(x)
    x = x * masks.like(x)
    maps = []
    for stage in _stages(net):
        for block in stage:
            x = _block(block, x, masks)
        maps.append(x)
    return maps


def masked_mean(last_map: Tensor, visible: Tensor) -> Tensor:
    """(B, D, g, g) with zeros at hidden cells -> (B, D) mean over the visible ones."""
    return last_map.sum((2, 3)) / visible.sum((2, 3)).to(last_map.dtype)


class _Masks:
    """The cells of one batch at every resolution of the network, made once each."""

    def __init__(self, visible: Tensor) -> None:
        self.visible = visible
        self.made: dict[tuple[int, torch.dtype], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        key = (x.shape[-1], x.dtype)
        if key not in self.made:
            self.made[key] = enlarge(self.visible, x.shape[-1]).to(x.dtype)
        return self.made[key]


def _conv_norm(conv: nn.Module, norm: nn.Module, x: Tensor, masks: _Masks) -> Tensor:
    """Convolution, then normalisation over visible positions, which also zeroes the others."""
    x = conv(x)
    return joint_batch_norm(x, cast(_BatchNorm, norm), masks.like(x))


def _block(block: BasicBlock | Bottleneck, x: Tensor, masks: _Masks) -> Tensor:
    shortcut = x
    if block.downsample is not None:
        conv, norm = cast(nn.Sequential, block.downsample)
        shortcut = _conv_norm(conv, norm, x, masks)
    x = block.act1(_conv_norm(block.conv1, block.bn1, x, masks))
    x = _conv_norm(block.conv2, block.bn2, x, masks)
    if isinstance(block, Bottleneck):
        x = _conv_norm(block.conv3, block.bn3, block.act2(x), masks)
        return cast(Tensor, block.act3(x + shortcut))
    return cast(Tensor, block.act2(x + shortcut))
