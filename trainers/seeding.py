"""Randomness keyed by what it is for, never by who draws it.

A run has one ``seed``. Every random number comes from a hash of (seed, purpose, epoch, image, …), so that
ranks, workers, batch size per rank and resume cannot change it.
"""

from __future__ import annotations

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def derive(seed: int, purpose: str, *values: int | str) -> int:
    """A 63-bit child seed of ``seed`` for one named purpose, e.g. ``derive(0, "order", epoch)``."""
    text = ":".join([str(seed), purpose, *map(str, values)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def hash_ids(ids: list[str] | np.ndarray, salt: str) -> np.ndarray:
    """(N,) uint64 blake2b of ``salt:id``: the order of the nested subsets and the keys of the views."""
    prefix = f"{salt}:".encode()
    digests = (hashlib.blake2b(prefix + str(name).encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)


def mix(keys: np.ndarray) -> np.ndarray:
    """splitmix64 finaliser: uint64 -> well mixed uint64 (Steele, Lea & Flood 2014)."""
    with np.errstate(over="ignore"):
        z = keys + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def image_keys(image_hashes: np.ndarray, seed: int, purpose: str, epoch: int) -> np.ndarray:
    """(B,) uint64 keys of images in one epoch, for one purpose (``views``, ``masks``)."""
    return mix(image_hashes ^ np.uint64(derive(seed, purpose, epoch)))
