"""Label-free metrics of neighbourhoods: pure functions of (N, D) features. What is undefined is NaN."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

MAX_ROWS = 4096
"""Most rows whose pairs are compared, evenly spaced."""
DISCARDED = 0.1
"""Share of the largest distance ratios that ``two_nn`` leaves out, as its authors do."""
CLUSTER_ROWS = 20
"""Rows per cluster of ``cluster_learnability``, at most 100 clusters."""


def two_nn(features: np.ndarray) -> float:
    """Intrinsic dimension: slope through the origin of -ln(1 - F(μ)) on ln μ, μ = distance to the second over that to
    the first neighbour, F its empirical distribution without the largest tenth.

    Range > 0; better: higher (CLID reads it as expressiveness). Low for d > 10: true 20 gives about 16 at N = 4,000.
    Copies of an image are left out. O(M² D), M = min(N, 4096) rows. Source: Facco et al., Sci. Rep. 2017.
    """
    rows = np.unique(spread_rows(features, MAX_ROWS), axis=0)
    if len(rows) < 10:
        return float("nan")
    distances, _ = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(rows).kneighbors(rows)
    first, second = distances[:, 1], distances[:, 2]
    known = first > 1e-7 * second
    ratios = np.sort(np.log(second[known] / first[known]))
    kept = int(len(ratios) * (1 - DISCARDED))
    ratios, cumulative = ratios[:kept], np.arange(1, kept + 1) / max(len(ratios), 1)
    square = float(ratios @ ratios)
    return float(-np.log1p(-cumulative) @ ratios / square) if square > 0 else float("nan")


def cluster_learnability(features: np.ndarray) -> float:
    """Held-out accuracy of 1-NN on labels that k-means gave: how easily the features' own clusters are learned.

    One half of the rows learns, the other is asked; k = M / 20, at most 100. Range 0..1; better: higher, in CLID
    together with the intrinsic dimension. O(M² D), M = min(N, 4096) rows. Source: Lu et al. 2022, arXiv 2206.01251.
    """
    rows = spread_rows(features, MAX_ROWS)
    clusters = min(100, len(rows) // CLUSTER_ROWS)
    if clusters < 2 or len(np.unique(rows, axis=0)) < clusters:
        return float("nan")
    labels = KMeans(clusters, n_init=1, random_state=0).fit_predict(rows)
    order = np.random.default_rng(0).permutation(len(rows))
    learned, asked = order[::2], order[1::2]
    nearest = KNeighborsClassifier(1, algorithm="brute").fit(rows[learned], labels[learned])
    return float(np.mean(nearest.predict(rows[asked]) == labels[asked]))


def spread_rows(features: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` rows, evenly spaced, float64."""
    if len(features) <= most:
        return features.astype(np.float64)
    rows: np.ndarray = features[np.linspace(0, len(features) - 1, most).astype(np.int64)].astype(np.float64)
    return rows
