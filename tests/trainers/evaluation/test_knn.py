"""Nearest neighbours and the detectors against naive loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from tests.trainers.evaluation.synthetic import correlated_features
from trainers.evaluation import detectors, knn


def test_votes_equal_a_naive_loop() -> None:
    train, labels = correlated_features(80, 6, 0.3, seed=0)
    queries, _ = correlated_features(30, 6, 0.5, seed=1)
    found = knn.knn_scores(knn.cosine_neighbors(train, queries, 20), labels, num_neighbors=7)
    for query, score in zip(queries, found, strict=True):
        similarity = [float(query @ row / np.linalg.norm(query) / np.linalg.norm(row)) for row in train]
        nearest = sorted(range(len(train)), key=lambda i: -similarity[i])[:7]
        weights = [np.exp(similarity[i] / 0.07) for i in nearest]
        expected = sum(w for w, i in zip(weights, nearest, strict=True) if labels[i]) / sum(weights)
        assert score == pytest.approx(expected, abs=1e-4)


def test_chunks_do_not_change_the_neighbors(monkeypatch: pytest.MonkeyPatch) -> None:
    train, _ = correlated_features(50, 8, 0.3, seed=0)
    queries, _ = correlated_features(45, 8, 0.3, seed=1)
    whole = knn.cosine_neighbors(train, queries, 5)
    monkeypatch.setattr(knn, "_BLOCK", 7 * 50)
    pieces = knn.cosine_neighbors(train, queries, 5)
    assert np.array_equal(whole.indices, pieces.indices)


def test_fewer_references_than_neighbors_use_all_of_them() -> None:
    train, labels = np.eye(3, dtype=np.float32), np.array([1, 0, 0])
    neighbors = knn.cosine_neighbors(train, np.ones((2, 3), np.float32), 20)
    assert neighbors.indices.shape == (2, 3)
    assert knn.knn_scores(neighbors, labels, 20) == pytest.approx(1 / 3)


def test_detector_distance_is_euclidean_on_the_sphere() -> None:
    train, _ = correlated_features(60, 6, 0.0, seed=0)
    queries, _ = correlated_features(10, 6, 0.5, seed=1)
    found = detectors.knn_distance(knn.cosine_neighbors(train, queries, 20), num_neighbors=3)
    unit = [matrix / np.linalg.norm(matrix, axis=1, keepdims=True) for matrix in (train, queries)]
    distances = np.sort(np.linalg.norm(unit[1][:, None] - unit[0][None], axis=2), axis=1)[:, :3].mean(1)
    assert found == pytest.approx(distances, abs=1e-4)


@pytest.mark.parametrize("num_rows", [200, 12])
def test_mahalanobis_equals_scikit_learn(num_rows: int) -> None:
    """Also with fewer images than features."""
    train, _ = correlated_features(num_rows, 20, 0.1, seed=0)
    queries, _ = correlated_features(40, 20, 0.5, seed=1)
    expected = LedoitWolf().fit(train.astype(np.float64)).mahalanobis(queries.astype(np.float64))
    assert detectors.mahalanobis(train, queries) == pytest.approx(expected, rel=1e-6)


def test_outliers_of_a_contaminated_set_score_higher() -> None:
    rng = np.random.default_rng(0)
    train = rng.normal(size=(500, 10)) + 3
    train[:10, :5] -= 8
    normal, outliers = rng.normal(size=(50, 10)) + 3, rng.normal(size=(50, 10)) + 3
    outliers[:, 5:] -= 8
    queries = np.concatenate([normal, outliers])
    distances = detectors.knn_distance(knn.cosine_neighbors(train, queries, 5))
    for scores in (detectors.mahalanobis(train, queries), distances):
        assert scores[50:].min() > np.median(scores[:50])
