"""What the copy to MLflow costs training: the same study in turn with MLflow (SQLite) and with none.

    python -m benchmarks.mlflow_cost [PAIRS]

Two trials at once on two cores, so that the driver's thread takes its time from them. Reported: the ratio of the
trials' own training seconds, with / without, per pair and its median.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

import ablation
from ablation.spec import Grid
from benchmarks.record import facts_line, table, write
from benchmarks.scale import DEAD
from trainers.config import DataConfig, EvaluationConfig, ImbalanceConfig, OptimConfig

EPOCHS = 20


def training_seconds(mlflow: bool) -> float:
    """Sum over two trials, each epoch about a second long."""
    spec = ablation.StudySpec(
        name="cost", data=DataConfig(dataset="digits", image_size=32), allow_tiny=True,
        imbalance=ImbalanceConfig(total=96), train=OptimConfig(epochs=EPOCHS, batch_size=32),
        grid=Grid(method=("simclr",), backbone=("resnet18",), imbalance=(0.1,), seed=(0, 1)),
        evaluation=EvaluationConfig(max_images=100, fixed_labelled=40, view_images=8, views_per_image=2))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ABLATION_CACHE"] = str(Path(folder) / "cache")
        results = ablation.run(ablation.plan(spec, store=folder), tracking_uri=None if mlflow else DEAD)
        return float(results.trials_dataframe()["metrics.time/train"].sum())


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    rows = []
    for number in range(pairs):
        order = (True, False) if number % 2 else (False, True)
        seconds = {mlflow: training_seconds(mlflow) for mlflow in order}
        rows.append({"with MLflow s": seconds[True], "without s": seconds[False],
                     "ratio": seconds[True] / seconds[False]})
        print(table(rows[-1:]), flush=True)
    print(f"median of {pairs} pairs: {statistics.median(row['ratio'] for row in rows):.3f}; {facts_line()}")
    print(write("mlflow_cost", rows))


if __name__ == "__main__":
    main()
