"""Anomaly scores of images: by the probe of a model, or, without labels, by distance under an encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ablation.defect_models import Scorer
    from trainers.export import Encoder

_BATCH = 256


def score(model: Encoder | Scorer, images: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """(N,) float32, higher = more likely a defect, of uint8 images (N, 3, H, H).

    With a model that has a probe (``ablation.load_model``, ``results.model``): its probability of a defect, 0..1.
    Images are resized inside; at side ``model.input_size`` they score as in the study.

    With an encoder (``results.encoder``): the distance of each image to its 5 nearest ``reference`` images, 0..2, which
    should be mostly normal. Without them, every image is measured against the others, which finds what is rare among
    them. The distance is that of ``detector/knn_auroc`` (DN2, arXiv 2002.10445).

    Raises ``ValueError`` for images of another form, and for reference images beside a probe.
    """
    _check(images := np.asarray(images))
    from trainers.export import Encoder

    if not isinstance(model, Encoder):
        if reference is not None:
            raise ValueError("a model with a probe needs no reference images; distances need results.encoder(key)")
        return model.scores(images)
    if reference is not None:
        _check(reference := np.asarray(reference))
        return distances(encode(model, images), encode(model, reference))
    return distances(encode(model, images), None)


def distances(features: np.ndarray, reference: np.ndarray | None) -> np.ndarray:
    """(N,) float32 as ``score`` without a probe, of features (N, D); None = each against the others (N >= 2)."""
    from trainers.evaluation.detectors import NUM_NEIGHBORS, knn_distance
    from trainers.evaluation.knn import Neighbors, cosine_neighbors

    if reference is not None:
        return knn_distance(cosine_neighbors(reference, features, NUM_NEIGHBORS)).astype(np.float32)
    if len(features) < 2:
        raise ValueError("scoring without reference images needs at least two images")
    found = cosine_neighbors(features, features, NUM_NEIGHBORS + 1)
    # The nearest is the image itself (or an exact copy of it, which says the same).
    others = Neighbors(similarities=found.similarities[:, 1:], indices=found.indices[:, 1:])
    return knn_distance(others).astype(np.float32)


def encode(encoder: Encoder, images: np.ndarray) -> np.ndarray:
    """(N, D) float32 features of uint8 images (N, 3, H, H)."""
    import torch

    device = next(encoder.parameters()).device
    batches = (torch.from_numpy(images[start:start + _BATCH]).to(device) for start in range(0, len(images), _BATCH))
    return np.concatenate([encoder(batch).cpu().numpy() for batch in batches])


def _check(images: np.ndarray) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3] or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 (N, 3, H, H), got {images.dtype} {images.shape}")
    if not len(images):
        raise ValueError("there are no images")
