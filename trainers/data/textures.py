"""Tileable surface textures of the simulated pipes, made once per process."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.spatial import cKDTree

SIDE = 256
"""Texels per side, a power of two: sampling wraps with a bit mask."""
ROUND = SIDE / (2 * np.pi)
"""Texels per unit of pipe radius that close without a seam around the pipe."""


@lru_cache(maxsize=1)
def textures() -> dict[str, np.ndarray]:
    """(SIDE, SIDE) float32 each, zero mean and unit deviation.

    ``coarse`` dirt, ``fine`` grain, ``lumps`` lit from the camera (relief of crusts), ``pebbles`` (bare aggregate).
    """
    rng = np.random.Generator(np.random.PCG64(20_261_123))
    lumps = _cells(rng, 260)
    pebbles = _cells(rng, 700)
    slope = np.roll(lumps, 3, axis=1) - np.roll(lumps, -3, axis=1)
    grit = pebbles + 0.4 * _spectrum(rng, 0.4)
    return {"coarse": _spectrum(rng, 1.7), "fine": _spectrum(rng, 0.5),
            "lumps": _standard(0.5 * lumps + slope), "pebbles": _standard(grit)}


def sample(name: str, around: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Nearest texel of texture ``name`` at texel coordinates (any shape, any range)."""
    picked: np.ndarray = textures()[name][around.astype(np.int32) & (SIDE - 1), along.astype(np.int32) & (SIDE - 1)]
    return picked


def _spectrum(rng: np.random.Generator, exponent: float) -> np.ndarray:
    """Noise with amplitude ~ frequency ** -exponent."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :])
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(rng.standard_normal((SIDE, SIDE)))
    return _standard(np.fft.irfft2(white * frequency**-exponent, s=(SIDE, SIDE)))


def _cells(rng: np.random.Generator, count: int) -> np.ndarray:
    """Rounded bumps around ``count`` random points (Worley noise, 1 - distance to the nearest point)."""
    tree = cKDTree(rng.random((count, 2)) * SIDE, boxsize=SIDE)
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1).reshape(-1, 2)
    distance = tree.query(grid.astype(float))[0].reshape(SIDE, SIDE)
    return _standard(np.sqrt(np.clip(1 - (distance / distance.max() * 1.3) ** 2, 0, 1)))


def _standard(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.mean()) / values.std(), dtype=np.float32)
