"""Seconds of overhead per trial: what a study costs beyond training and evaluation.

    python -m benchmarks.orchestration [NUM_TRIALS]

overhead = (wall time x trials at once - sum of the trials' training and evaluation) / number of trials, for the whole
study (with Ray's start, MLflow and the report) and in the steady state (first trial's start to last trial's end).
"""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

import ablation
from ablation.spec import Grid
from benchmarks.record import table, write
from trainers.config import DataConfig, EvaluationConfig, ImbalanceConfig, OptimConfig


def measure(num_trials: int) -> dict[str, Any]:
    """One study of tiny trials on ``digits``, one process per core."""
    spec = ablation.StudySpec(
        name="orchestration", data=DataConfig(dataset="digits", image_size=16), allow_tiny=True,
        imbalance=ImbalanceConfig(total=128), grid=Grid(method=("simclr",), backbone=("resnet18",), imbalance=(0.1,),
                                                        seed=tuple(range(num_trials))),
        train=OptimConfig(epochs=2, batch_size=32), evaluation=EvaluationConfig(max_images=200, fixed_labelled=64))
    with tempfile.TemporaryDirectory() as folder:
        plan = ablation.plan(spec, store=folder)
        begun = time.time()
        frame = ablation.run(plan).trials_dataframe()
        wall = time.time() - begun
        states = [plan.store.read_state(key) for key in frame["key"]]
    assert (frame["state"] == "FINISHED").all(), frame["reason"].dropna().tolist()
    work = float((frame["metrics.time/train"] + frame["metrics.time/evaluate"]).sum())
    slots = _slots(states)
    steady = max(s.finished or 0 for s in states) - min(s.started or 0 for s in states)
    return {"trials": num_trials, "at once": slots, "wall s": wall, "steady s": steady, "work s": work,
            "overhead/trial, all": (wall * slots - work) / num_trials,
            "overhead/trial, steady": (steady * slots - work) / num_trials}


def _slots(states: list[Any]) -> int:
    """Most trials that ran at the same moment."""
    return max(sum(other.started <= state.started < other.finished for other in states) for state in states)


if __name__ == "__main__":
    rows = [measure(int(sys.argv[1]) if len(sys.argv) > 1 else 24)]
    print(table(rows))
    print(write("orchestration", rows))
