"""Exact cosine nearest neighbours, and the weighted vote on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from trainers.machine import full_float32

TEMPERATURE = 0.07  # Wu et al., CVPR 2018
_BLOCK = 2**26  # similarities in memory at once: 256 MiB


@dataclass(frozen=True, kw_only=True)
class Neighbors:
    """The k most similar reference rows of each query, most similar first."""

    similarities: np.ndarray
    """(Q, k) float32 cosine similarities, -1..1."""
    indices: np.ndarray
    """(Q, k) rows of the reference."""


def normalize_rows(features: np.ndarray) -> np.ndarray:
    """Rows scaled to unit length, float32; a zero row stays zero."""
    features = features.astype(np.float32, copy=False)
    unit: np.ndarray = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return unit


def cosine_neighbors(reference: np.ndarray, queries: np.ndarray, num_neighbors: int,
                     device: torch.device | str = "cpu") -> Neighbors:
    """Exact search of (Q, D) queries among (N, D) reference rows; fewer than k rows give all of them."""
    count = min(num_neighbors, len(reference))
    transposed = torch.from_numpy(normalize_rows(reference)).to(device).T
    unit = torch.from_numpy(normalize_rows(queries)).to(device)
    with full_float32():
        nearest = [(chunk @ transposed).topk(count) for chunk in torch.split(unit, _rows_at_once(len(reference)))]
    return Neighbors(similarities=torch.cat([found.values for found in nearest]).cpu().numpy(),
                     indices=torch.cat([found.indices for found in nearest]).cpu().numpy())


def _rows_at_once(num_references: int) -> int:
    return max(1, _BLOCK // num_references)


def knn_scores(neighbors: Neighbors, labels: np.ndarray, num_neighbors: int,
               temperature: float = TEMPERATURE) -> np.ndarray:
    """(Q,) share of the vote for "defect", 0..1, among the k nearest, each with weight exp(similarity / temperature).

    Source: Wu et al., CVPR 2018.
    """
    nearest = neighbors.similarities[:, :num_neighbors]
    # Relative to the nearest neighbour: the same shares, and no overflow at small temperatures.
    weights = np.exp((nearest - nearest[:, :1]) / temperature)
    votes = weights * (labels[neighbors.indices[:, :num_neighbors]] == 1)
    shares: np.ndarray = votes.sum(1) / weights.sum(1)
    return shares
