"""Smooth textures, some with a planted bright square: made-up images whose defect has a known place."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

SQUARE = 12


def planted(number: int, side: int, seed: int, squares: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, 3, side, side), and the centres (y, x) of the squares in the first ``squares`` of them."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.standard_normal((number, side, side)), (0, 3, 3), mode="wrap")
    images = np.repeat((110 + 30 * smooth / smooth.std())[:, None], 3, axis=1)
    corners = rng.integers(0, side - SQUARE, (squares, 2))
    for image, (y, x) in zip(images, corners, strict=False):
        image[:, y:y + SQUARE, x:x + SQUARE] = 250
    return images.clip(0, 255).astype(np.uint8), corners + SQUARE / 2


def found(distances: np.ndarray, centres: np.ndarray, side: int) -> np.ndarray:
    """(N,) whether the largest distance of each map (N, h, h) lies in or next to the square."""
    cell = side / distances.shape[1]
    places = np.stack(np.unravel_index(distances.reshape(len(distances), -1).argmax(1), distances.shape[1:]), 1)
    return np.asarray(np.abs((places + 0.5) * cell - centres).max(1) <= SQUARE / 2 + cell)
