"""From a subset to batches: an order that depends on (seed, epoch) only, and pixels fetched one batch ahead."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainers.config import DataConfig, decode
from trainers.data import open_dataset
from trainers.data.cache import Cache
from trainers.data.index import AbstractDataset
from trainers.seeding import derive, hash_ids


@dataclass(frozen=True)
class OpenData:
    """A data set with its decoded cache and the per-image hashes that key all randomness."""

    dataset: AbstractDataset
    cache: Cache
    hashes: np.ndarray
    """(N,) uint64 by index position."""


@lru_cache(maxsize=2)  # keyed by JSON, since a dataclass that holds a dict does not hash
def _open(config_key: str, cache_dir: Path) -> OpenData:
    config = decode(DataConfig, json.loads(config_key))
    dataset = open_dataset(config)
    cache = Cache.open(dataset, config.resolved_cache_size, cache_dir)
    return OpenData(dataset, cache, hash_ids(dataset.index.ids, "image"))


def open_data(config: DataConfig, cache_dir: Path) -> OpenData:
    """Open once per process and keep: warm workers take trial after trial on the same pictures."""
    return _open(json.dumps(dataclasses.asdict(config), sort_keys=True), cache_dir)


@dataclass(frozen=True)
class Sampler:
    """Batches of positions. Incomplete last batches are dropped: batch statistics need equal sizes."""

    positions: np.ndarray
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1

    @property
    def steps_per_epoch(self) -> int:
        return len(self.positions) // self.batch_size

    def batches(self, epoch: int, first_step: int = 0) -> list[np.ndarray]:
        """This rank's positions of each step of an epoch: a contiguous share of every global batch."""
        order = np.random.default_rng(derive(self.seed, "order", epoch)).permutation(len(self.positions))
        share = self.batch_size // self.world_size
        start = self.rank * share
        steps = order[: self.steps_per_epoch * self.batch_size].reshape(-1, self.batch_size)
        return [self.positions[row[start:start + share]] for row in steps[first_step:]]


def read_ahead(gather: Callable[[np.ndarray], np.ndarray], batches: list[np.ndarray]) -> Iterator[np.ndarray]:
    """``gather`` of each batch of positions, in order; the next one is read while the caller works on the present."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="gather") as reader:
        upcoming = [reader.submit(gather, batch) for batch in batches[:1]]
        for batch in batches[1:]:
            upcoming.append(reader.submit(gather, batch))
            yield upcoming.pop(0).result()
        for last in upcoming:
            yield last.result()


class Prefetcher:
    """Pixels of one batch after the other, and how long the loop stood still for them."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self._waited = 0.0

    def take_waited(self) -> float:
        """Seconds waited since the last call."""
        waited, self._waited = self._waited, 0.0
        return waited

    def stream(self, batches: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (positions (B,), pixels (B, 3, S, S) uint8) in order."""
        pixels = read_ahead(self.cache.gather, batches)
        for positions in batches:
            begun = time.perf_counter()
            gathered = next(pixels)
            self._waited += time.perf_counter() - begun
            yield positions, gathered
