"""Anomaly scores without labels, fitted on the pre-training subset as it is (contaminated at its own prevalence)."""

from __future__ import annotations

import numpy as np
from sklearn.covariance import LedoitWolf

from trainers.evaluation.knn import Neighbors

NUM_NEIGHBORS = 5
"""k of the kNN detector; DN2 (arXiv 2002.10445) finds 1 to 5 equally good, the larger k bears more contamination."""


def knn_distance(neighbors: Neighbors, num_neighbors: int = NUM_NEIGHBORS) -> np.ndarray:
    """(Q,) mean Euclidean distance of L2-normalised features to their k nearest training features, 0..2."""
    nearest = neighbors.similarities[:, :num_neighbors]
    distances: np.ndarray = np.sqrt(np.maximum(2 - 2 * nearest, 0)).mean(1)
    return distances


def mahalanobis(train: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(Q,) squared Mahalanobis distance to the mean of (N, D) training features, >= 0.

    Covariance shrunk by Ledoit & Wolf (2004), so that N < D is fine; constant features give 0 everywhere.
    """
    model = LedoitWolf(store_precision=False).fit(train.astype(np.float64))
    centred = queries.astype(np.float64) - model.location_
    distances: np.ndarray = ((centred @ model.get_precision()) * centred).sum(1)
    return distances
