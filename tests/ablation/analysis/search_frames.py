"""Frames of searches as ``StudyResults.search_dataframe`` and ``.arms_dataframe`` give them, with planted effects."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from tests.ablation.analysis.frames import trials_frame

Value = Callable[[str, dict[str, float]], float]
AUROC, RANKME = "probe/auroc", "label_free/rankme"


def lr_alone(_: str, settings: dict[str, float]) -> float:
    """Best at 3e-3, whatever the rest."""
    return 0.8 - 0.08 * (math.log10(settings["set.train.lr"]) + 2.52) ** 2


def candidates_frame(value: Value = lr_alone, *, methods: Sequence[str] = ("simclr", "mae"),
                     backbones: Sequence[str] = ("resnet18",), levels: Sequence[float] = (0.05,),
                     metrics: Sequence[str] = (AUROC,), size: int = 20, noise: float = 0.004, pruned: bool = True,
                     seed: int = 0) -> pd.DataFrame:
    """Candidate 0 is the recipe; then random ones, of which every fourth is stopped early and one fails. Objectives of
    a cell share their candidates: ``keys``; RankMe is 100 times the value and noisier."""
    rng = np.random.default_rng(seed)
    rows = []
    for method, backbone, level in itertools.product(methods, backbones, levels):
        drawn = [_draw(method, backbone, number, rng) for number in range(size)]
        for metric in metrics:
            part = [_candidate(number, settings, value(method, settings), metric, noise, pruned, rng)
                    | {"method": method, "backbone": backbone, "imbalance": level, "metric": metric,
                       "keys": f"{method}-{backbone}-{level}-{number}"} for number, settings in enumerate(drawn)]
            done = [row for row in part if row["state"] == "COMPLETE"]
            max(done, key=lambda row: float(str(row["value"])))["best"] = True
            rows += part
    return pd.DataFrame(rows)


def _draw(method: str, backbone: str, number: int, rng: np.random.Generator) -> dict[str, float]:
    """Of the built-in spaces' settings, some; a ViT's rates are a third."""
    low = 3e-4 if backbone == "resnet18" else 1e-4
    drawn = {"set.train.lr": low * 100 ** rng.random(), "set.train.weight_decay": 0.005 * 100 ** rng.random(),
             "set.train.batch_size": float(rng.choice([32, 64, 128, 256]))}
    if method == "mae":
        drawn["set.train.options.mask_ratio"] = 0.4 + 0.4 * rng.random()
    else:
        drawn["set.train.options.temperature"] = 0.05 * 16 ** rng.random()
    recipe = {"set.train.lr": 10 * low, "set.train.weight_decay": 0.05, "set.train.batch_size": 128.0,
              "set.train.options.mask_ratio": 0.6, "set.train.options.temperature": 0.2}
    return {name: recipe[name] for name in drawn} if number == 0 else drawn


def _candidate(number: int, settings: dict[str, float], value: float, metric: str, noise: float, pruned: bool,
               rng: np.random.Generator) -> dict[str, object]:
    state = "COMPLETE"
    if number and pruned:
        state = "FAIL" if number == 7 else "PRUNED" if number % 4 == 3 else "COMPLETE"
    epochs = {"COMPLETE": 20, "PRUNED": 5, "FAIL": 2}[state]
    value += noise * rng.normal() - (0.05 if state == "PRUNED" else 0.0)
    if metric != AUROC:
        value = 100 * value + 600 * noise * rng.normal()
    return {"number": number, "state": state, "value": math.nan if state == "FAIL" else value, "epoch": epochs,
            "epochs": 2 * epochs, "images": 2_000.0 * 2 * epochs, "seconds": 30.0 * epochs, "cost": math.nan,
            "is_recipe": number == 0, "best": False, "pareto": False, **settings}


def arms_frame(score: Callable[[str, str], float], *, methods: Sequence[str] = ("simclr", "byol", "mae"),
               arms: Sequence[str] = ("recipe", AUROC), backbones: Sequence[str] = ("resnet18", "vit_tiny"),
               levels: Sequence[float] = (0.05, 0.5), seeds: int = 4, noise: float = 0.004,
               subset_noise: float = 0.01) -> pd.DataFrame:
    """``score`` (method, arm) plus noise of the trial, and noise of the subset that all trials of a level and seed
    share."""
    parts = []
    for i, arm in enumerate(arms):
        trials = trials_frame(lambda method, _, __, arm=arm: score(method, arm), methods=methods,  # type: ignore[misc]
                              backbones=backbones, levels=levels, seeds=seeds, noise=noise, seed=i)
        parts.append(trials.assign(arm=arm, seed=trials["seed"] + 100, key=f"{i}-" + trials["key"]))
    frame = pd.concat(parts, ignore_index=True)
    rng = np.random.default_rng(99)
    drawn = {key: rng.normal() for key in itertools.product(levels, range(100, 100 + seeds))}
    shared = [drawn[key] for key in zip(frame["imbalance"], frame["seed"], strict=True)]
    return frame.assign(**{"metrics.probe/auroc": frame["metrics.probe/auroc"] + subset_noise * np.array(shared)})
