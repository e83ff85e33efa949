"""What features look like without any label. Pure functions of (N, D) rows = images; views are (N, q, D).

Covariance spectra are centred, RankMe and the stable rank are not. What is undefined is NaN, which
``evaluate`` leaves out. Costs: the spectra are one Gram matrix of the smaller side, O(N D min(N, D)), and its
eigenvalues, O(min(N, D)³), in float64.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from trainers.evaluation.knn import normalize_rows

RANKME_CONVENTION = "uncentred-singular-values-eps1e-7-float64"
"""Which of the many RankMe's this is; logged beside the value with N."""
UNIFORMITY_ROWS = 4096
"""Most rows whose pairs are compared by ``uniformity``."""


def rankme(features: np.ndarray) -> float:
    """exp(-Σ p ln p), p = σ / Σσ + 1e-7 with σ the singular values of the raw, uncentred features.

    Range 1..min(N, D); better: context (compare within one method and width only). O(N D min(N, D)).
    Source: Garrido et al., ICML 2023, arXiv 2210.02885, equation 1.
    """
    return rankme_of(singular_values(features))


def alpha_req(features: np.ndarray) -> float:
    """Slope α of ln λ_j = -α ln j + c over the ranks 10 <= j < 100, weights 1/j; λ = covariance eigenvalues.

    Range >= 0; better: near 1. NaN when fewer than 3 of those eigenvalues are positive. O(N D min(N, D)).
    Source: Agrawal et al., NeurIPS 2022; range and weights as in the library reptrix.
    """
    return alpha_of(covariance_eigenvalues(features))


def nesum(features: np.ndarray) -> float:
    """Σ λ_j / λ_1 of the covariance eigenvalues.

    Range 1..D (D = whitened); better: context; NaN for constant features. O(N D min(N, D)).
    Source: He & Ozay, ICML 2022.
    """
    return _ratio_to_largest(covariance_eigenvalues(features))


def stable_rank(features: np.ndarray) -> float:
    """‖Z‖_F² / σ_1² of the uncentred features.

    Range 1..min(N, D); better: context; NaN for all-zero features. O(N D min(N, D)).
    Source: Tsitsulin et al. 2023, arXiv 2305.16562.
    """
    return _ratio_to_largest(singular_values(features) ** 2)


def self_cluster(features: np.ndarray) -> float:
    """(‖ẐẐᵀ‖_F² - e) / (N² - e), e = N + N(N-1)/D, Ẑ = L2-normalised rows.

    Range about 0 (random directions) to 1 (collapsed), may be negative; better: lower. O(N D²), as ‖ẐᵀẐ‖_F².
    Source: Tsitsulin et al. 2023, arXiv 2305.16562.
    """
    num_rows, width = features.shape
    expected = num_rows + num_rows * (num_rows - 1) / width
    if num_rows**2 == expected:
        return float("nan")
    unit = normalize_rows(features).astype(np.float64)
    similarity = np.square(unit.T @ unit).sum()
    return float((similarity - expected) / (num_rows**2 - expected))


def uniformity(features: np.ndarray) -> float:
    """ln E_{i≠j} exp(-2 ‖ẑ_i - ẑ_j‖²), Ẑ = L2-normalised rows.

    Range -8..0 (0 = collapsed); better: lower. O(M² D) with M = min(N, 4096) evenly spaced rows.
    Source: Wang & Isola, ICML 2020, t = 2.
    """
    num_rows = min(len(features), UNIFORMITY_ROWS)
    if num_rows < 2:
        return float("nan")
    unit = normalize_rows(features[np.linspace(0, len(features) - 1, num_rows).astype(np.int64)])
    total = 0.0
    for start in range(0, num_rows, 512):  # only blocks right of the diagonal, and the diagonal block itself
        block = unit[start:start + 512]
        potential = np.exp(4 * (block @ unit[start:].T) - 4)
        own = potential[:, :len(block)]
        total += 2 * potential.sum(dtype=np.float64) - own.sum(dtype=np.float64)
        total -= np.trace(own, dtype=np.float64)
    return float(np.log(total / (num_rows * (num_rows - 1))))


def alignment(views: np.ndarray) -> float:
    """E ‖ẑ - ẑ⁺‖² over all pairs of the q views (N, q, D) of each image, rows L2-normalised.

    Range 0..4; better: lower. O(N q² D). Source: Wang & Isola, ICML 2020, α = 2.
    """
    num_views = views.shape[1]
    if num_views < 2:
        return float("nan")
    unit = normalize_rows(views.reshape(-1, views.shape[2])).reshape(views.shape).astype(np.float64)
    pairs = [np.square(unit[:, i] - unit[:, j]).sum(1).mean() for i, j in combinations(range(num_views), 2)]
    return float(np.mean(pairs))


def lidar(views: np.ndarray, delta: float = 1e-4, epsilon: float = 1e-8) -> float:
    """exp(-Σ p ln p), p = normalised eigenvalues (+ε) of Σ_w^-½ Σ_b Σ_w^-½, from q views (N, q, D) of each image.

    Σ_b = mean over images of the scatter of their means, Σ_w = mean within-image scatter + δI. Range 1..D;
    better: higher. O(N q D² + D³). Source: Thilak et al., ICLR 2024, arXiv 2312.04000, section 4.
    """
    num_images, num_views, width = views.shape
    if num_images < 2 or num_views < 2:
        return float("nan")
    views = views.astype(np.float64)
    means = views.mean(1)
    centred, residual = means - means.mean(0), (views - means[:, None]).reshape(-1, width)
    between = centred.T @ centred / num_images
    within = residual.T @ residual / len(residual) + delta * np.eye(width)
    values, axes = np.linalg.eigh(within)
    whitener = axes / np.sqrt(values)
    spectrum = np.maximum(np.linalg.eigvalsh(whitener.T @ between @ whitener), 0)
    return _entropy_rank(spectrum, epsilon)


def label_free_metrics(features: np.ndarray, embeddings: np.ndarray | None = None,
                       views: np.ndarray | None = None) -> dict[str, float]:
    """All of the above as ``label_free/*``; each spectrum is computed once. May hold NaN."""
    raw, covariance = singular_values(features), covariance_eigenvalues(features)
    found = {
        "rankme": rankme_of(raw),
        "alpha_req": alpha_of(covariance),
        "nesum": _ratio_to_largest(covariance),
        "stable_rank": _ratio_to_largest(raw**2),
        "self_cluster": self_cluster(features),
        "uniformity": uniformity(features),
    }
    if embeddings is not None:
        found["rankme_embedding"] = rankme(embeddings)
    if views is not None:
        found["lidar"], found["alignment"] = lidar(views), alignment(views)
    return {f"label_free/{name}": value for name, value in found.items()}


def singular_values(features: np.ndarray) -> np.ndarray:
    """Singular values of the raw features, descending, (min(N, D),) float64, from the smaller Gram matrix."""
    values: np.ndarray = np.sqrt(_gram_eigenvalues(features.astype(np.float64)))
    return values


def covariance_eigenvalues(features: np.ndarray) -> np.ndarray:
    """Eigenvalues of the covariance (divisor N), descending, (min(N, D),) float64."""
    features = features.astype(np.float64)
    centre = features.mean(0)
    # What centring leaves of a constant column is rounding, not variance.
    floor = np.square(centre).sum() * 1e-14
    values = _gram_eigenvalues(features - centre) / len(features)
    return np.where(values > floor, values, 0.0)


def rankme_of(values: np.ndarray, epsilon: float = 1e-7) -> float:
    """RankMe from singular values; NaN when all are zero."""
    return _entropy_rank(values, epsilon)


def alpha_of(eigenvalues: np.ndarray) -> float:
    """α-ReQ from descending covariance eigenvalues."""
    ranks = np.arange(10, min(100, len(eigenvalues) + 1))
    values = eigenvalues[ranks - 1]
    kept = values > 1e-12 * eigenvalues[0]
    if kept.sum() < 3:
        return float("nan")
    ranks, values = ranks[kept], values[kept]
    slope, _ = np.polyfit(np.log(ranks), np.log(values), 1, w=np.sqrt(1 / ranks))  # polyfit squares its weights
    return float(-slope)


def _entropy_rank(values: np.ndarray, epsilon: float) -> float:
    if values.sum() <= 0:
        return float("nan")
    shares = values / values.sum() + epsilon
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _ratio_to_largest(values: np.ndarray) -> float:
    return float(values.sum() / values[0]) if values[0] > 0 else float("nan")


def _gram_eigenvalues(features: np.ndarray) -> np.ndarray:
    gram = features.T @ features if features.shape[0] >= features.shape[1] else features @ features.T
    return np.maximum(np.linalg.eigvalsh(gram)[::-1], 0)
