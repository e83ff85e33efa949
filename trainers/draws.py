"""Uniform random numbers per image, computed where they are used: a counter-based hash, so there is no generator
whose state a rank, a worker or a batch could change, and no copy from the host."""

from __future__ import annotations

import torch
from torch import Tensor


def _signed(word: int) -> int:
    """A 64-bit word as torch's int64, whose sums and products wrap alike."""
    return word - 2**64 if word >= 2**63 else word


_GOLDEN, _FIRST, _SECOND = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def uniforms(keys: Tensor, stream: int, count: int) -> Tensor:
    """(B, count) float32 in [0, 1): independent numbers per key (B,) int64; ``stream`` separates draws (views).

    ``count`` is at most 4096, where the next stream begins.
    """
    assert count <= 4096
    counters = (torch.arange(count, device=keys.device) + (1 + stream * 4096)) * _GOLDEN
    bits = _mix(keys[:, None] ^ _mix(counters))
    return _shift(bits, 40).float() * 2.0**-24


def _mix(words: Tensor) -> Tensor:
    """splitmix64 finaliser (Steele, Lea & Flood 2014), as ``trainers.seeding.mix``."""
    z = words + _GOLDEN
    z = (z ^ _shift(z, 30)) * _FIRST
    z = (z ^ _shift(z, 27)) * _SECOND
    return z ^ _shift(z, 31)


def _shift(words: Tensor, bits: int) -> Tensor:
    """Unsigned right shift."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)
