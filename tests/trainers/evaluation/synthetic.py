"""Features with the decaying spectrum of a real encoder, and feature sets made of them."""

from __future__ import annotations

import numpy as np

from trainers.evaluation.evaluate import EvalInput, FeatureSet
from trainers.evaluation.metrics import SEWER_CODES


def correlated_features(num_rows: int, width: int, prevalence: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) float32 features (spectrum 1/j, fixed rotation) and labels; defects move along a fixed direction."""
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    turn = np.linalg.qr(fixed.normal(size=(width, width)))[0]
    direction = fixed.normal(size=width) / np.sqrt(width)
    labels = np.zeros(num_rows, np.int64)
    labels[: round(prevalence * num_rows)] = 1
    labels = rng.permutation(labels)
    noise = rng.normal(size=(num_rows, width)) + 2.5 * labels[:, None] * direction
    return (noise * np.arange(1, width + 1) ** -0.5 @ turn).astype(np.float32), labels


def feature_set(num_rows: int, width: int, prevalence: float, seed: int, codes: bool = False,
                embedding_width: int | None = None) -> FeatureSet:
    """A set whose defects carry one of the first four codes each."""
    features, labels = correlated_features(num_rows, width, prevalence, seed)
    rng = np.random.default_rng(seed)
    table = None
    if codes:
        table = np.zeros((num_rows, len(SEWER_CODES)), np.uint8)
        defects = np.flatnonzero(labels)
        table[defects, rng.integers(0, 4, len(defects))] = 1
    embeddings = rng.normal(size=(num_rows, embedding_width)).astype(np.float32) if embedding_width else None
    return FeatureSet(features=features, labels=labels, codes=table, embeddings=embeddings)


def eval_input(width: int = 24, prevalence: float = 0.1, codes: bool = True, views: bool = False) -> EvalInput:
    """A whole evaluation, small."""
    view_features = np.random.default_rng(0).normal(size=(30, 4, width)) if views else None
    return EvalInput(
        train=feature_set(300, width, prevalence, 0, codes), validation=feature_set(200, width, 0.5, 1, codes),
        test=feature_set(300, width, 0.5, 2, codes), fixed_labelled=feature_set(100, width, 0.5, 3, codes),
        level_free=feature_set(150, width, 0.5, 4, codes, embedding_width=16), views=view_features,
        random_init_auroc=0.6)
