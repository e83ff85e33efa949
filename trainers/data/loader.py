"""From a subset to batches of positions: an order that depends on (seed, epoch) only."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainers import plugins
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
def _open(config_key: str, code: str, cache_dir: Path) -> OpenData:
    config = decode(DataConfig, json.loads(config_key))
    dataset = open_dataset(config)
    cache = Cache.open(dataset, config.resolved_cache_size, cache_dir, code)
    return OpenData(dataset, cache, hash_ids(dataset.index.ids, "image"))


def open_data(config: DataConfig, cache_dir: Path) -> OpenData:
    """Open once per process and keep: warm workers take trial after trial on the same pictures."""
    code = ""
    if plugins.is_plugin("datasets", config.dataset):
        code = plugins.find("datasets", config.dataset).digest + json.dumps(config.options, sort_keys=True)
    return _open(json.dumps(dataclasses.asdict(config), sort_keys=True), code, cache_dir)


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
