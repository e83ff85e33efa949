"""Decodes what trials need into the cache of this machine, before they start."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ablation.events import Event, OnEvent

if TYPE_CHECKING:
    from ablation.trial import Trial


def prepare_pictures(todo: list[Trial], tell: OnEvent) -> Path:
    """Decode what the trials need, before they start: here it is said, and bad data ends in one line."""
    import numpy as np

    from trainers.data.cache import default_cache_dir
    from trainers.data.imbalance import select_evaluation_sets, select_subset
    from trainers.data.loader import open_data

    cache_dir = default_cache_dir()
    seen: set[str] = set()
    for trial in todo:
        config = trial.config
        cell = repr((config.data, config.subset, config.imbalance, config.seed, config.evaluation))
        if cell in seen:
            continue
        seen.add(cell)
        data = open_data(config.data, cache_dir)
        index = data.dataset.index
        subset = select_subset(index, config.imbalance, config.seed, config.subset, config.allow_tiny)
        sets = select_evaluation_sets(index, config.evaluation)
        data.cache.ensure(np.concatenate([subset.positions, *vars(sets).values()]),
                          report=lambda text: tell(Event("phase", text)))
    return cache_dir
