"""What features look like without any label. Pure functions of (N, D) rows = images; views are (N, q, D).

Covariance spectra are centred, RankMe, the stable rank and coherence are not. What is undefined is NaN, which
``evaluate`` leaves out. Costs: the spectra are one Gram matrix of the smaller side, O(N D min(N, D)), and its
eigenvalues, O(min(N, D)³), in float64. Metrics of neighbourhoods: ``geometry``.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from trainers.evaluation.geometry import cluster_learnability, two_nn
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


def rankme_per_width(features: np.ndarray) -> float:
    """RankMe / D, so that backbones of different width share a scale.

    Range 1/D..1; better: context. O(N D min(N, D)). Source: as ``rankme``, whose ceiling is min(N, D).
    """
    return rankme(features) / int(features.shape[1])


def alpha_req(features: np.ndarray) -> float:
    """Slope α of ln λ_j = -α ln j + c over the ranks 10 <= j < 100, weights 1/j; λ = covariance eigenvalues.

    Range >= 0; better: near 1. NaN when fewer than 3 of those eigenvalues are positive. O(N D min(N, D)).
    Source: Agrawal et al., NeurIPS 2022; range and weights as in the library reptrix.
    """
    return alpha_of(covariance_eigenvalues(features))[0]


def alpha_req_r2(features: np.ndarray) -> float:
    """R² of the fit of ``alpha_req`` with its weights: near 1 where the spectrum is a power law, else α says little.

    Range <= 1; better: context. O(N D min(N, D)). Source: as ``alpha_req``.
    """
    return alpha_of(covariance_eigenvalues(features))[1]


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


def pseudo_condition(features: np.ndarray) -> float:
    """σ_1 / σ_D of the centred features, as in TF-GNN (other ports report the inverse).

    Range >= 1; better: lower; NaN for rank-deficient features (a dead unit, N <= D). O(N D min(N, D)).
    Source: Tsitsulin et al. 2023, arXiv 2305.16562.
    """
    return _condition(covariance_eigenvalues(features), features.shape[1])


def coherence(features: np.ndarray) -> float:
    """(N / r) max_i ‖U_i‖², Z = UΣVᵀ of rank r, uncentred: the largest leverage of an image.

    Range 1..N/r; better: lower. One outlier drives it, so in anomaly data it partly measures the anomalies.
    O(N D min(N, D)). Source: Tsitsulin et al. 2023, arXiv 2305.16562.
    """
    features = features.astype(np.float64)
    energies, axes = np.linalg.eigh(features.T @ features)
    kept = energies > 1e-12 * energies[-1]
    if energies[-1] <= 0:
        return float("nan")
    leverage = np.square(features @ (axes[:, kept] / np.sqrt(energies[kept]))).sum(1)
    return float(len(features) / kept.sum() * leverage.max())


def isoscore(features: np.ndarray) -> float:
    """(D φ - 1) / (D - 1), φ = (D - δ²(D - √D))² / D², δ = ‖v̂ - 1‖ / √(2(D - √D)), v̂ = √D v / ‖v‖, v = variances
    along the principal axes: the share of dimensions used evenly.

    Range 0 (one direction) to 1 (isotropic); better: higher; NaN for constant features or D = 1. O(N D min(N, D)).
    Source: Rudman et al., Findings of ACL 2022.
    """
    return _isotropy(covariance_eigenvalues(features), features.shape[1])


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
    """The metrics of every run by name; each spectrum is computed once. May hold NaN."""
    raw, covariance = singular_values(features), covariance_eigenvalues(features)
    found = {
        "rankme": rankme_of(raw),
        "alpha_req": alpha_of(covariance)[0],
        "nesum": _ratio_to_largest(covariance),
        "stable_rank": _ratio_to_largest(raw**2),
        "self_cluster": self_cluster(features),
        "uniformity": uniformity(features),
    }
    if embeddings is not None:
        found["rankme_embedding"] = rankme(embeddings)
    if views is not None:
        found["lidar"], found["alignment"] = lidar(views), alignment(views)
    return found


def further_metrics(features: np.ndarray) -> dict[str, float]:
    """The rest by name, for the analysis: a run may log 40 keys only. May hold NaN."""
    covariance = covariance_eigenvalues(features)
    return {
        "rankme_per_width": rankme_per_width(features),
        "alpha_req_r2": alpha_of(covariance)[1],
        "pseudo_condition": _condition(covariance, features.shape[1]),
        "coherence": coherence(features),
        "isoscore": _isotropy(covariance, features.shape[1]),
        "two_nn": two_nn(features),
        "cluster_learnability": cluster_learnability(features),
    }


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


def alpha_of(eigenvalues: np.ndarray) -> tuple[float, float]:
    """(α-ReQ, weighted R² of its fit) from descending covariance eigenvalues."""
    ranks = np.arange(10, min(100, len(eigenvalues) + 1))
    values = eigenvalues[ranks - 1]
    kept = values > 1e-12 * eigenvalues[0]
    if kept.sum() < 3:
        return float("nan"), float("nan")
    x, y, weights = np.log(ranks[kept]), np.log(values[kept]), 1 / ranks[kept]
    slope, intercept = np.polyfit(x, y, 1, w=np.sqrt(weights))  # polyfit squares its weights
    spread = weights @ np.square(y - np.average(y, weights=weights))
    left = weights @ np.square(y - slope * x - intercept)
    return float(-slope), float(1 - left / spread) if spread > 0 else float("nan")


def _condition(eigenvalues: np.ndarray, width: int) -> float:
    full = len(eigenvalues) == width and eigenvalues[-1] > 1e-12 * eigenvalues[0]
    return float(np.sqrt(eigenvalues[0] / eigenvalues[-1])) if full else float("nan")


def _isotropy(eigenvalues: np.ndarray, width: int) -> float:
    if width < 2 or eigenvalues[0] <= 0:
        return float("nan")
    scaled = np.zeros(width)
    scaled[:len(eigenvalues)] = np.sqrt(width) * eigenvalues / np.linalg.norm(eigenvalues)
    rest = width - np.sqrt(width)
    defect = np.square(scaled - 1).sum() / (2 * rest)
    phi = (width - defect * rest) ** 2 / width**2
    return float((width * phi - 1) / (width - 1))


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
