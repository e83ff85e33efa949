"""Writes a store as trials leave it, with made-up numbers: analysis and reports are tested without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ablation.store import StudyStore, TrialState, TrialStatus
from trainers.config import DataConfig, OptimConfig, TrainConfig

METHODS = ["simclr", "barlow_twins", "byol", "dino", "mae", "supervised"]
BACKBONES = ["resnet18", "vit_tiny"]
SKILL = {"simclr": 0.80, "barlow_twins": 0.79, "byol": 0.77, "dino": 0.76, "mae": 0.69, "supervised": 0.90}
LOSS = {"simclr": 4.2, "barlow_twins": 900.0, "byol": 1.4, "dino": 8.2, "mae": 0.9, "supervised": 0.6}
NATURAL = 0.47
TYPES = ["RB", "OB", "RO", "BE", "AF"]


def write_study(
    path: Path,
    *,
    methods: Sequence[str] = METHODS,
    backbones: Sequence[str] = BACKBONES,
    imbalance: Sequence[float | str] = (0.01, 0.05, 0.5),
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 30,
    states: dict[str, TrialStatus] | None = None,
    num_test: int = 200,
    drop_metrics: Sequence[str] = (),
    data: DataConfig | None = None,
) -> Path:
    """One trial per cell, FINISHED unless ``states`` maps a prefix of its key to something else. Returns ``path``."""
    store = StudyStore(path)
    store.write_study(
        f"name: {path.name}\ngrid:\n  method: {list(methods)}\n  backbone: {list(backbones)}\n"
        f"  imbalance: {list(imbalance)}\n  seed: {list(seeds)}\n"
    )
    rows = [
        {
            "key": f"{m}-{b}-{'natural' if isinstance(p, str) else f'p{p:g}'}-s{s}-{i:08x}",
            "method": m,
            "backbone": b,
            "imbalance": p,
            "seed": s,
        }
        for i, (m, b, p, s) in enumerate(
            (m, b, p, s) for m in methods for b in backbones for p in imbalance for s in seeds
        )
    ]
    store.write_plan({"trials": rows})
    for row in rows:
        status = next(
            (v for k, v in (states or {}).items() if row["key"].startswith(k)), TrialStatus(state=TrialState.FINISHED)
        )
        _write_trial(store, row, status, epochs, num_test, drop_metrics, data or DataConfig(dataset="sewer-sim"))
    return path


def _write_trial(
    store: StudyStore,
    row: dict[str, Any],
    status: TrialStatus,
    epochs: int,
    num_test: int,
    drop_metrics: Sequence[str],
    data: DataConfig,
) -> None:
    key, seed = row["key"], row["seed"]
    rng = np.random.default_rng([int(key[-8:], 16), seed])
    prevalence = NATURAL if row["imbalance"] == "natural" else row["imbalance"]
    config = TrainConfig(
        method=row["method"],
        backbone=row["backbone"],
        imbalance=row["imbalance"],
        seed=seed,
        data=data,
        train=OptimConfig(epochs=epochs),
    )
    defects = round(2000 * prevalence)
    store.write_trial(
        key,
        {
            "key": key,
            "config": config.to_dict(),
            "data_digest": "0123456789abcdef",
            "subset": {
                "num_defects": defects,
                "num_normals": 2000 - defects,
                "counts": {"RB": defects},
                "digest": "fedcba98",
            },
        },
    )
    folder = store.trial_dir(key)
    if status.state is not TrialState.PENDING:
        done = epochs if status.state is TrialState.FINISHED else max(1, epochs // 3)
        curve = LOSS.get(row["method"], 1.0) * (0.55 + 0.45 * np.exp(-4 * np.arange(1, done + 1) / epochs))
        curve *= 1 + 0.03 * rng.standard_normal(done) + 0.1 * (row["backbone"] == "vit_tiny")
        lines = [
            f'{{"epoch": {e + 1}, "step": {8 * (e + 1)}, "time": {1.7e9 + e}, '
            f'"metrics": {{"train/loss": {v:.6f}, "train/lr": 0.1}}}}\n'
            for e, v in enumerate(curve.tolist())
        ]
        (folder / "history.jsonl").write_text("".join(lines))
    store.write_state(key, status)
    if status.state is TrialState.FINISHED:
        metrics = {k: v for k, v in _metrics(row, prevalence, rng).items() if k not in drop_metrics}
        store.write_result(
            key,
            {
                "metrics": metrics,
                "epochs": epochs,
                "steps": 8 * epochs,
                "flags": list(status.flags),
                "provenance": {"torch": "2.15.0", "git_sha": "abc1234", "data_digest": "0123456789abcdef"},
            },
        )
        _scores(rng, metrics.get("probe/auroc", 0.7), num_test).to_parquet(folder / "scores.parquet", index=False)


def _metrics(row: dict[str, Any], prevalence: float, rng: np.random.Generator) -> dict[str, float]:
    score = SKILL.get(row["method"], 0.7) + 0.035 * np.log10(prevalence / 0.05) + 0.012 * rng.standard_normal()
    score -= 0.03 * (row["backbone"] == "vit_tiny")
    untrained = 0.62 + 0.01 * row["seed"] - 0.02 * (row["backbone"] == "vit_tiny")
    width = 512 if row["backbone"] == "resnet18" else 192
    rank = width * (0.2 + 0.5 * float(np.clip(score - 0.5, 0, 0.5)) + 0.03 * rng.random())
    return {
        "probe/auroc": float(min(score, 0.99)),
        "probe/ap": float(score - 0.05),
        "random_init/auroc": untrained,
        "knn/auroc": float(score - 0.04),
        "detector/knn_auroc": float(score - 0.1),
        "label_free/rankme": rank,
        "label_free/rankme_embedding": float(40 + 20 * rng.random()),
        "train/loss": LOSS.get(row["method"], 1.0) * 0.55,
    }


def _scores(rng: np.random.Generator, auroc: float, num_test: int) -> pd.DataFrame:
    """Validation, then as many test images."""
    validation = _split(rng, auroc, num_test).assign(split="validation")
    validation["image_id"] = [f"{num_test + i:08d}.png" for i in range(num_test)]
    return pd.concat([validation, _split(rng, auroc, num_test)], ignore_index=True)


def _split(rng: np.random.Generator, auroc: float, num_test: int) -> pd.DataFrame:
    """Half defects; probe scores separate the classes about as well as ``auroc`` says."""
    label = np.tile([0, 1], num_test // 2).astype(np.int8)
    shift = 4 * (auroc - 0.5)
    probe = 1 / (1 + np.exp(-(rng.standard_normal(num_test) + shift * (2 * label - 1) / 2)))
    knn = 0.3 + 0.1 * rng.standard_normal(num_test) + 0.08 * label
    types = [TYPES[i % len(TYPES)] if y else "" for i, y in enumerate(label.tolist())]
    ids = [f"{i:08d}.png" for i in range(num_test)]
    return pd.DataFrame(
        {
            "image_id": ids,
            "split": "test",
            "label": label,
            "defect_type": types,
            "score_probe": probe.astype(np.float32),
            "score_probe_balanced": probe.astype(np.float32),
            "score_detector_knn": knn.astype(np.float32),
            "score_detector_mahalanobis": knn.astype(np.float32),
        }
    )


def draw_images(image_ids: list[str]) -> list[np.ndarray]:
    """A picture per id: a dark disc with some texture, ``(64, 64, 3)`` uint8."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    base = 60 + 130 * np.clip(np.hypot(x, y), 0, 1)
    out = []
    for image_id in image_ids:
        noise = np.random.default_rng(abs(int(image_id.split(".")[0]))).normal(0, 10, (64, 64))
        out.append(
            np.stack([base + noise, base * 0.85 + noise, base * 0.7 + noise], axis=-1).clip(0, 255).astype(np.uint8)
        )
    return out
