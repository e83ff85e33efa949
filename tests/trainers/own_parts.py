"""A backbone, a data set and metrics of somebody else; tests write this file elsewhere and name it in studies."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from trainers.data.digits import Digits as BuiltIn


class Net(nn.Module):
    """One convolution."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                                  nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(images)
        return features


def tiny_net(image_size: int) -> nn.Module:
    """One convolution, 8 features."""
    return Net()


class Flipped(BuiltIn):  # type: ignore[misc]
    """The digits upside down."""

    summary = "scikit-learn's digits upside down"

    def load(self, position: int) -> np.ndarray:
        return super().load(position)[::-1].copy()


def gap(features: np.ndarray, labels: np.ndarray) -> float:
    """Distance between the means of the classes."""
    return float(np.linalg.norm(features[labels == 1].mean(0) - features[labels == 0].mean(0)))


def moody(scores: np.ndarray) -> float:
    """Raises on real scores only."""
    if len(scores) > 32:
        raise KeyError("no luck")
    return 0.0
