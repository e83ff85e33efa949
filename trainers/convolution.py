"""Convolutions over tiny maps as one matrix product, on the CPU.

oneDNN works along the positions of a map; where there are 2 x 2 or 4 x 4 of them, as in the last stages of a ResNet on
small images, gathering the taps and multiplying once is faster, forward and backward together
(docs/results/performance.md). It is also right: of a 3 x 3 convolution with stride 2 over one position, oneDNN's bf16
weight gradient is what memory happens to hold (torch 2.15). Names, weights and results are those of ``nn.Conv2d``, but
for rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

MAX_POSITIONS = 16
"""Output positions up to which the matrix product wins in bf16 and in float32."""
_Pair = tuple[int, int]


@final
class MatrixConv2d(nn.Conv2d):
    """``nn.Conv2d`` with zero padding and neither groups nor dilation."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, O, h', w')."""
        window = _Window(cast(_Pair, self.kernel_size), cast(_Pair, self.stride), cast(_Pair, self.padding))
        height, width = window.output_size(input)
        if input.device.type != "cpu" or height * width > MAX_POSITIONS:
            return super().forward(input)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            input, weight = input.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        # Permuted out here: autograd forbids in-place operations (ReLU) on a view that a Function returns.
        out = _Product.apply(input, weight, bias, window)  # type: ignore[no-untyped-call]
        return cast(Tensor, out.permute(0, 3, 1, 2))


@dataclass(frozen=True)
class _Window:
    """Which input positions an output position looks at."""

    kernel: _Pair
    stride: _Pair
    padding: _Pair

    def output_size(self, images: Tensor) -> _Pair:
        height, width = ((images.shape[2 + axis] + 2 * self.padding[axis] - self.kernel[axis]) // self.stride[axis] + 1
                         for axis in (0, 1))
        return height, width

    def slices(self, size: _Pair) -> list[tuple[slice, slice, slice]]:
        """One view of the padded (B, h, w, C) input per tap of the kernel, row by row."""
        spans = [[slice(tap, tap + stride * (length - 1) + 1, stride) for tap in range(taps)]
                 for taps, stride, length in zip(self.kernel, self.stride, size, strict=True)]
        return [(slice(None), row, column) for row in spans[0] for column in spans[1]]

    def taps(self, images: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, h', w', taps * C)."""
        (down, across), last = self.padding, images.permute(0, 2, 3, 1)
        last = F.pad(last, (0, 0, across, across, down, down))
        return torch.cat([last[where] for where in self.slices(self.output_size(images))], -1)


class _Product(torch.autograd.Function):
    """Taps times weights. Gathers the taps again in the backward pass: kept, they are the largest maps of a network."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, window: _Window) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.window = window
        return F.linear(window.taps(images), _by_taps(weight), bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        images, weight = ctx.saved_tensors
        window: _Window = ctx.window
        rows, channels = grad.reshape(-1, len(weight)), weight.shape[1]
        grad_images = grad_weight = grad_bias = None
        if ctx.needs_input_grad[1]:
            by_taps = rows.T @ window.taps(images).flatten(0, 2)
            grad_weight = by_taps.view(len(weight), *window.kernel, channels).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[2]:
            grad_bias = rows.sum(0)
        if ctx.needs_input_grad[0]:
            size, (down, across) = window.output_size(images), window.padding
            parts = (rows @ _by_taps(weight)).view(len(images), *size, -1, channels).unbind(3)
            height, width = images.shape[2:]
            padded = rows.new_zeros(len(images), height + 2 * down, width + 2 * across, channels)
            for where, part in zip(window.slices(size), parts, strict=True):
                padded[where] += part
            grad_images = padded[:, down:down + height, across:across + width].permute(0, 3, 1, 2)
        return grad_images, grad_weight, grad_bias, None


def _by_taps(weight: Tensor) -> Tensor:
    """(O, C, kh, kw) -> (O, kh * kw * C)."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def use_matrix_products(net: nn.Module) -> None:
    """Let every plain convolution in ``net`` work this way, in place; modules, parameters and names stay."""
    for module in net.modules():
        if type(module) is nn.Conv2d and _is_plain(module):
            module.__class__ = MatrixConv2d


def use_plain_convolutions(net: nn.Module) -> None:
    """Undo ``use_matrix_products``: what exports a network does not know an autograd function."""
    for module in net.modules():
        if type(module) is MatrixConv2d:
            module.__class__ = nn.Conv2d  # type: ignore[assignment]


def _is_plain(conv: nn.Conv2d) -> bool:
    named = isinstance(conv.padding, str)
    return conv.groups == math.prod(conv.dilation) == 1 and conv.padding_mode == "zeros" and not named
