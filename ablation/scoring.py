"""Anomaly scores of images under a trained encoder, without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from trainers.export import Encoder

_BATCH = 256


def score(encoder: Encoder, images: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """(N,) float32 distance of each image to its 5 nearest ``reference`` images, 0..2: higher is more unusual.

    Images are uint8 (N, 3, H, H), at any size; ``reference`` should be mostly normal. Without one, every image is
    measured against the others, which finds what is rare among them. The distance is that of ``detector/knn_auroc``
    (DN2, arXiv 2002.10445). Raises ``ValueError`` for images of another form.
    """
    from trainers.evaluation.detectors import NUM_NEIGHBORS, knn_distance
    from trainers.evaluation.knn import Neighbors, cosine_neighbors

    features = _features(encoder, images)
    if reference is not None:
        return knn_distance(cosine_neighbors(_features(encoder, reference), features, NUM_NEIGHBORS)).astype(np.float32)
    if len(features) < 2:
        raise ValueError("scoring without reference images needs at least two images")
    found = cosine_neighbors(features, features, NUM_NEIGHBORS + 1)
    # The nearest is the image itself (or an exact copy of it, which says the same).
    others = Neighbors(similarities=found.similarities[:, 1:], indices=found.indices[:, 1:])
    return knn_distance(others).astype(np.float32)


def _features(encoder: Encoder, images: np.ndarray) -> np.ndarray:
    import torch

    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3] or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 (N, 3, H, H), got {images.dtype} {images.shape}")
    if not len(images):
        raise ValueError("there are no images")
    device = next(encoder.parameters()).device
    batches = (torch.from_numpy(images[start:start + _BATCH]).to(device) for start in range(0, len(images), _BATCH))
    return np.concatenate([encoder(batch).cpu().numpy() for batch in batches])
