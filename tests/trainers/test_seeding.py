"""Randomness depends on what it is for, and on nothing else."""

from __future__ import annotations

import numpy as np
import torch

from trainers.data.loader import Sampler
from trainers.draws import uniforms
from trainers.seeding import derive, hash_ids, image_keys, mix


def test_uniforms_are_uniform_and_uncorrelated() -> None:
    hashes = hash_ids([f"{i}.png" for i in range(20_000)], "image")
    keys = torch.from_numpy(image_keys(hashes, 0, "views", 0).view(np.int64))
    draws = uniforms(keys, 0, 4).numpy()
    assert draws.min() >= 0
    assert draws.max() < 1
    np.testing.assert_allclose(draws.mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(draws.var(0), 1 / 12, atol=0.002)
    correlation = np.corrcoef(np.hstack([draws, uniforms(keys, 1, 4).numpy()]).T) - np.eye(8)
    assert np.abs(correlation).max() < 0.03


def test_the_hash_on_the_device_is_the_one_on_the_host() -> None:
    """splitmix64 (its finaliser in ``seeding.mix``), for words of all sizes."""
    words = np.random.default_rng(0).integers(0, 2**64, 1000, dtype=np.uint64)
    counters = (np.arange(3, dtype=np.uint64) + np.uint64(1 + 2 * 4096)) * np.uint64(0x9E3779B97F4A7C15)
    expected = (mix(words[:, None] ^ mix(counters)) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    np.testing.assert_array_equal(uniforms(torch.from_numpy(words.view(np.int64)), 2, 3).numpy(), expected)


def test_each_purpose_epoch_and_seed_has_numbers_of_its_own() -> None:
    hashes = hash_ids(["a", "b"], "image")
    keys = {int(image_keys(hashes, seed, purpose, epoch)[0])
            for seed in (0, 1) for purpose in ("views", "masks") for epoch in (0, 1)}
    assert len(keys) == 8
    assert derive(0, "order", 1) != derive(0, "order", 2) != derive(1, "order", 2)


def test_golden_hash_of_subset_order() -> None:
    """Pinned: blake2b('0:a.png')[:8] big-endian, so that subsets stay what they were across releases."""
    import hashlib

    expected = int.from_bytes(hashlib.blake2b(b"0:a.png", digest_size=8).digest(), "big")
    assert int(hash_ids(["a.png"], "0")[0]) == expected


def test_ranks_share_every_global_batch() -> None:
    positions = np.arange(100)
    whole = Sampler(positions, 24, seed=5).batches(epoch=3)
    parts = [Sampler(positions, 24, 5, rank, 3).batches(3) for rank in range(3)]
    assert len(whole) == 4
    for number, batch in enumerate(whole):
        assert np.array_equal(np.concatenate([part[number] for part in parts]), batch)
    assert np.array_equal(np.concatenate(Sampler(positions, 24, 5).batches(3, first_step=2)), np.concatenate(whole[2:]))
    assert not np.array_equal(np.concatenate(whole), np.concatenate(Sampler(positions, 24, 5).batches(4)))
