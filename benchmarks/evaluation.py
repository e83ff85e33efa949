"""Seconds of each part of an evaluation against the libraries' own way, and how far the results are apart.

    python -m benchmarks.evaluation

Probe: scikit-learn's StandardScaler + LogisticRegression in GridSearchCV over the same C and folds. Neighbours:
scikit-learn's brute-force search. RankMe: singular values by a full SVD. One thread, laps in turn, medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.record import facts_line, table, write
from trainers.evaluation.knn import cosine_neighbors
from trainers.evaluation.label_free import rankme, rankme_of
from trainers.evaluation.metrics import auroc
from trainers.evaluation.probe import C_GRID, NUM_FOLDS, LinearProbe, PrincipalAxes

ROUNDS = 3
SHAPES = ((1000, 192), (2000, 512), (10_000, 512))


def features(num_rows: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a spectrum that falls off as a network's does, a tenth of them shifted: (N, D) float32, (N,) labels."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(num_rows) < 0.1).astype(np.int64)
    mixing = np.random.default_rng(9).normal(size=(width, width)) * np.exp(-np.arange(width) / 60)[:, None]
    latent = generator.normal(size=(num_rows, width))
    latent[:, :20] += 0.4 * labels[:, None]
    return (latent @ mixing + 3).astype(np.float32), labels


def probe_ours(train: Any, test: Any) -> np.ndarray:
    return LinearProbe.fit(PrincipalAxes(train[0]), train[1], seed=0).logits(test[0])


def probe_theirs(train: Any, test: Any) -> np.ndarray:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=0)
    search = GridSearchCV(pipeline, {"logisticregression__C": C_GRID}, scoring="roc_auc", cv=folds)
    logits: np.ndarray = search.fit(train[0].astype(np.float64), train[1]).decision_function(test[0].astype(np.float64))
    return logits


def search_theirs(train: Any, test: Any) -> np.ndarray:
    found = NearestNeighbors(n_neighbors=20, metric="cosine", algorithm="brute").fit(train[0]).kneighbors(test[0])
    return found[1]  # type: ignore[no-any-return]


Work = Callable[[Any, Any], Any]
TASKS: dict[str, tuple[Work, Work, Callable[[Any, Any, np.ndarray], float]]] = {
    "probe, cross-validated": (probe_ours, probe_theirs,
                               lambda a, b, labels: abs(auroc(labels, a) - auroc(labels, b))),
    "20 neighbours": (lambda train, test: cosine_neighbors(train[0], test[0], 20).indices, search_theirs,
                      lambda a, b, labels: float((a != b).mean())),
    "RankMe": (lambda train, test: rankme(test[0]),
               lambda train, test: rankme_of(np.linalg.svd(test[0].astype(np.float64), compute_uv=False)),
               lambda a, b, labels: abs(a / b - 1)),
}
"""Ours, theirs, and their difference: of AUROC, share of other neighbours, relative."""


def measure(task: str, num_rows: int, width: int) -> dict[str, Any]:
    train, test = features(num_rows, width, 0), features(num_rows, width, 1)
    ours, theirs, difference = TASKS[task]
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    found = {}
    for _ in range(ROUNDS):
        for name, work in (("ours", ours), ("theirs", theirs)):
            begun = time.perf_counter()
            found[name] = work(train, test)
            seconds[name].append(time.perf_counter() - begun)
    a, b = (statistics.median(seconds[name]) for name in ("ours", "theirs"))
    return {"task": task, "rows": num_rows, "width": width, "ours s": a, "library s": b, "times faster": b / a,
            "difference": f"{difference(found['ours'], found['theirs'], test[1]):.1e}"}


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows = [measure(task, *shape) for task in TASKS for shape in SHAPES]
    print(table(rows), facts_line(), sep="\n")
    print(write("evaluation", rows))
