"""Projection heads. Shapes: B rows, D features, K projection."""

from __future__ import annotations

import itertools
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mlp(
    *widths: int, norm: bool = True, activation: type[nn.Module] = nn.ReLU, last_bias: bool = True
) -> nn.Sequential:
    """(B, widths[0]) -> (B, widths[-1]): Linear, BatchNorm, activation per hidden layer, then a bare Linear.

    A linear layer in front of a batch normalisation has no bias: its gradient would be exactly zero.
    """
    layers: list[nn.Module] = []
    for wide_in, wide_out in itertools.pairwise(widths[:-1]):
        layers.append(nn.Linear(wide_in, wide_out, bias=not norm))
        if norm:
            layers.append(nn.BatchNorm1d(wide_out))
        layers.append(activation())
    layers.append(nn.Linear(widths[-2], widths[-1], bias=last_bias))
    return nn.Sequential(*layers)


@final
class PrototypeHead(nn.Module):
    """DINO's head: 3-layer MLP, L2 norm, linear layer with unit-norm rows (weight norm with g = 1), no bias."""

    def __init__(self, feature_dim: int, *, hidden_dim: int, bottleneck_dim: int, num_prototypes: int, norm: bool):
        super().__init__()
        self.project = mlp(feature_dim, hidden_dim, hidden_dim, bottleneck_dim, norm=norm, activation=nn.GELU)
        self.prototypes = nn.Parameter(torch.empty(num_prototypes, bottleneck_dim))
        for module in self.project.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.kaiming_uniform_(self.prototypes, a=5**0.5)

    def embed(self, features: Tensor) -> Tensor:
        """(B, D) -> unit vectors (B, bottleneck)."""
        x: Tensor = self.project(features)
        return F.normalize(x if x.dtype.itemsize >= 4 else x.float(), dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> cosines with the prototypes (B, K), in [-1, 1].

        In float32 also under autocast: bf16 cosines, divided by a temperature of 0.04, cost 1 % of the gradient.
        """
        x = self.embed(features)
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x, F.normalize(self.prototypes, dim=-1))
