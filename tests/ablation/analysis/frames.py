"""Frames of trials as ``StudyResults.trials_dataframe`` gives them, with scores of one's choice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

METHODS = ("simclr", "barlow_twins", "byol", "dino", "mae", "supervised")
BACKBONES = ("resnet18", "vit_tiny")
LEVELS = (0.01, 0.05, 0.15, 0.5)
Score = Callable[[str, str, float], float]


def trials_frame(score: Score, *, noise: float = 0.01, methods: Sequence[str] = METHODS,
                 backbones: Sequence[str] = BACKBONES, levels: Sequence[float] = LEVELS, seeds: int = 5,
                 metric: str = "probe/auroc", seed: int = 0) -> pd.DataFrame:
    """All FINISHED; ``score`` (method, backbone, level) plus normal noise."""
    rng = np.random.default_rng(seed)
    rows = [{"key": f"{m}-{b}-p{p:g}-s{s}-{i:08x}", "state": "FINISHED", "method": m, "backbone": b, "imbalance": p,
             "seed": s, "reason": "", "flags": "", "num_defects": round(2000 * p),
             "num_normals": 2000 - round(2000 * p), f"metrics.{metric}": score(m, b, p) + noise * rng.normal()}
            for i, (m, b, p, s) in enumerate(itertools.product(methods, backbones, levels, range(seeds)))]
    return pd.DataFrame(rows)


def with_metric(trials: pd.DataFrame, name: str, values: np.ndarray) -> pd.DataFrame:
    return trials.assign(**{f"metrics.{name}": values})


def without(trials: pd.DataFrame, state: str = "FAILED", **cell: object) -> pd.DataFrame:
    """The trials of a cell in another state, their numbers gone."""
    hit = np.logical_and.reduce([trials[name] == value for name, value in cell.items()])
    numbers = [name for name in trials if str(name).startswith("metrics.")]
    changed = trials.copy()
    changed.loc[hit, "state"] = state
    changed.loc[hit, numbers] = np.nan
    return changed
