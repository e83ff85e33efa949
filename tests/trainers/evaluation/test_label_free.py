"""Oracle values of the label-free metrics; source unless said otherwise: ecosystem.md, section 4 and finding 2."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainers.evaluation import geometry, label_free

RNG = np.random.default_rng
MATRIX_METRICS = (label_free.rankme, label_free.alpha_req, label_free.nesum, label_free.stable_rank,
                  label_free.self_cluster, label_free.uniformity)
FURTHER_METRICS = (label_free.rankme_per_width, label_free.alpha_req_r2, label_free.pseudo_condition,
                   label_free.coherence, label_free.isoscore)


def orthonormal(rows: int, columns: int, centred: bool = False) -> np.ndarray:
    noise = RNG(0).normal(size=(rows, columns))
    return np.linalg.qr(noise - noise.mean(0) if centred else noise)[0]


def power_law_embeddings(num_rows: int) -> np.ndarray:
    """Covariance eigenvalues 1/j, mean 0.3, D = 512: the embeddings of the finding "RankMe is not one number"."""
    noise = RNG(0).normal(size=(10_000, 512))
    return (noise * np.arange(1, 513) ** -0.5 + 0.3)[:num_rows]


def test_rankme_of_known_spectra() -> None:
    assert label_free.rankme(orthonormal(1000, 64)) == pytest.approx(64.001, abs=1e-3)
    rank_one = np.outer(RNG(0).normal(size=500), RNG(1).normal(size=64))
    assert label_free.rankme(rank_one) == pytest.approx(1.0001, abs=1e-4)


def test_rankme_is_the_papers_convention() -> None:
    """267.9 = raw singular values, eps 1e-7; other conventions give 275.6, 406.5, 115.3 or 2.7 here; N matters too."""
    assert label_free.rankme(power_law_embeddings(10_000)) == pytest.approx(267.9, abs=0.5)
    assert label_free.rankme(power_law_embeddings(2048)) == pytest.approx(258.4, abs=0.5)
    assert label_free.rankme(power_law_embeddings(512)) == pytest.approx(208.9, abs=0.5)
    assert label_free.RANKME_CONVENTION == "uncentred-singular-values-eps1e-7-float64"


@pytest.mark.parametrize("shape", [(400, 96), (60, 200)])
def test_rankme_from_the_gram_matrix_equals_svd(shape: tuple[int, int]) -> None:
    features = (RNG(2).normal(size=shape) * np.logspace(0, -3, shape[1])).astype(np.float32)
    shares = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    shares = shares / shares.sum() + 1e-7
    assert label_free.rankme(features) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-6)


def test_alpha_req_of_an_exact_power_law() -> None:
    features = orthonormal(2000, 128, centred=True) * np.arange(1, 129) ** (-1.3 / 2)
    assert label_free.alpha_req(features) == pytest.approx(1.3, abs=1e-6)
    assert label_free.alpha_req(features + 5.0) == pytest.approx(1.3, abs=1e-6)  # the mean is no direction


def test_nesum_and_stable_rank_of_whitened_features_are_the_width() -> None:
    assert label_free.nesum(orthonormal(500, 32, centred=True)) == pytest.approx(32)
    assert label_free.stable_rank(orthonormal(500, 32)) == pytest.approx(32)


def test_self_cluster_from_square_corners_to_collapse() -> None:
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    assert label_free.self_cluster(corners) == pytest.approx(-1 / 3, abs=1e-6)
    assert label_free.self_cluster(RNG(0).normal(size=(2000, 64))) == pytest.approx(0, abs=1e-3)
    assert label_free.self_cluster(np.ones((50, 8))) == pytest.approx(1, abs=1e-5)


def test_uniformity_of_a_gaussian_and_of_a_point() -> None:
    assert label_free.uniformity(RNG(0).normal(size=(2000, 64))) == pytest.approx(-3.87, abs=0.02)
    assert label_free.uniformity(np.ones((50, 8))) == pytest.approx(0, abs=1e-5)


def test_uniformity_equals_the_definition() -> None:
    """More rows than one block, so that the block arithmetic is covered."""
    features = RNG(3).normal(size=(700, 5))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    squares = ((unit[:, None] - unit[None]) ** 2).sum(-1)
    expected = np.log(np.exp(-2 * squares)[~np.eye(700, dtype=bool)].mean())
    assert label_free.uniformity(features) == pytest.approx(expected, abs=1e-5)


def test_isoscore_of_isotropic_and_of_one_direction() -> None:
    """0.987 at N = 5,000 and D = 64; 0 for rank one (Rudman et al. 2022)."""
    assert label_free.isoscore(RNG(0).normal(size=(5000, 64))) == pytest.approx(0.987, abs=1e-3)
    assert label_free.isoscore(np.outer(RNG(0).normal(size=500), RNG(1).normal(size=64))) == pytest.approx(0, abs=1e-9)


def test_coherence_is_the_largest_leverage() -> None:
    """Equal leverage of all rows is 1; one row that alone spans a direction has leverage 1, so N / r."""
    hadamard = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], float)
    assert label_free.coherence(hadamard) == pytest.approx(1)
    alone = np.zeros((50, 2))
    alone[:, 0], alone[7] = 1, (0, 3)
    assert label_free.coherence(alone) == pytest.approx(50 / 2)
    features = RNG(0).normal(size=(60, 8))
    leverage = np.square(np.linalg.svd(features, full_matrices=False)[0]).sum(1)
    assert label_free.coherence(features) == pytest.approx(60 / 8 * leverage.max())


def test_pseudo_condition_is_that_of_the_centred_matrix() -> None:
    features = RNG(0).normal(size=(200, 6)) * np.arange(1, 7) + 5
    assert label_free.pseudo_condition(features) == pytest.approx(np.linalg.cond(features - features.mean(0)))
    assert math.isnan(label_free.pseudo_condition(features[:6]))


def test_r2_tells_a_power_law_from_a_cliff() -> None:
    law = orthonormal(2000, 128, centred=True) * np.arange(1, 129) ** (-1.3 / 2)
    cliff = orthonormal(2000, 128, centred=True) * np.where(np.arange(128) < 30, 1.0, 1e-3)
    assert label_free.alpha_req_r2(law) == pytest.approx(1, abs=1e-9)
    assert label_free.alpha_req_r2(cliff) < 0.8


def test_two_nn_finds_the_dimension_and_is_low_for_many() -> None:
    """2 in 62 idle dimensions; 20 is seen as about 16 at N = 4,000 (Facco et al. 2017)."""
    plane = np.pad(RNG(0).random((4000, 2)), ((0, 0), (0, 62)))
    assert geometry.two_nn(plane) == pytest.approx(2, abs=0.1)
    assert geometry.two_nn(RNG(0).random((4000, 20))) == pytest.approx(16.0, abs=0.6)
    assert geometry.two_nn(np.repeat(plane[:1000], 2, axis=0)) == pytest.approx(2, abs=0.15)  # copies change nothing


def test_clusters_of_separate_blobs_are_learned_and_of_noise_hardly() -> None:
    centres = 50 * RNG(0).normal(size=(20, 16))
    blobs = np.repeat(centres, 20, axis=0) + RNG(1).normal(size=(400, 16))
    assert geometry.cluster_learnability(blobs) > 0.95
    assert geometry.cluster_learnability(RNG(2).normal(size=(400, 64))) < 0.4


def test_alignment_is_the_mean_squared_distance_of_view_pairs() -> None:
    same = np.repeat(RNG(0).normal(size=(20, 1, 6)), 3, axis=1)
    assert label_free.alignment(same) == pytest.approx(0, abs=1e-9)
    turned = np.array([[[1.0, 0.0], [0.0, 2.0]]])  # orthogonal directions: squared distance 2
    assert label_free.alignment(turned) == pytest.approx(2)


@pytest.mark.parametrize(("num_views", "expected"), [(2, 20.9), (5, 20.4), (10, 20.1)])
def test_lidar_counts_the_informative_dimensions_only(num_views: int, expected: float) -> None:
    """20 informative and 44 large nuisance dimensions: LiDAR about 20 where RankMe says about 58."""
    rng = RNG(0)
    views = np.zeros((1000, num_views, 64))
    views[:, :, :20] = rng.normal(size=(1000, 1, 20)) + 0.1 * rng.normal(size=(1000, num_views, 20))
    views[:, :, 20:] = 3 * rng.normal(size=(1000, num_views, 44))
    assert label_free.lidar(views) == pytest.approx(expected, abs=0.15)
    assert label_free.rankme(views.reshape(-1, 64)) == pytest.approx(58.3, abs=0.4)


@pytest.mark.parametrize("factor", [0.01, 7.0])
def test_scale_and_rotation_change_nothing(factor: float) -> None:
    features = RNG(1).normal(size=(300, 40)) * np.linspace(1, 3, 40) + 0.2
    turn = np.linalg.qr(RNG(2).normal(size=(40, 40)))[0]
    for metric in (*MATRIX_METRICS, *FURTHER_METRICS, geometry.two_nn):
        assert metric(factor * features @ turn) == pytest.approx(metric(features), rel=1e-4)


def test_undefined_values_are_nan_not_an_error() -> None:
    assert math.isnan(label_free.rankme(np.zeros((10, 4))))
    assert math.isnan(label_free.nesum(np.full((10, 4), 0.1)))
    assert math.isnan(label_free.alpha_req(RNG(0).normal(size=(50, 8))))  # no ranks 10..99
    assert math.isnan(label_free.lidar(np.ones((5, 1, 3))))
    assert math.isnan(label_free.coherence(np.zeros((10, 4))))
    assert math.isnan(label_free.isoscore(np.full((10, 4), 0.1)))
    assert math.isnan(geometry.two_nn(np.ones((50, 3))))
    assert math.isnan(geometry.cluster_learnability(np.ones((100, 3))))


def test_all_metrics_together_equal_the_single_ones() -> None:
    features, embeddings = RNG(0).normal(size=(200, 24)), RNG(1).normal(size=(200, 12))
    found = label_free.label_free_metrics(features, embeddings, views=features.reshape(50, 4, 24))
    found |= label_free.further_metrics(features)
    for metric in (*MATRIX_METRICS, *FURTHER_METRICS, geometry.two_nn, geometry.cluster_learnability):
        assert found[metric.__name__] == pytest.approx(metric(features))
    assert found["rankme_embedding"] == pytest.approx(label_free.rankme(embeddings))
    assert {"lidar", "alignment"} <= set(found)
