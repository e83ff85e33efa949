"""Seconds of overhead per trial, and a whole study against a peer's script that is started once per trial.

    python -m benchmarks.orchestration [NUM_TRIALS] [--no-peer]

overhead = (wall time x trials at once - sum of the trials' training and evaluation) / number of trials, for the whole
study (with Ray's start, MLflow and the report) and in the steady state (first trial's start to last trial's end).
The peer's script trains the same networks on the same pictures for as many steps, one process after the other on all
cores, in float32 as its example does; it evaluates, logs and stores nothing. Both run in turn, each row is one run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import ablation
from ablation.spec import Grid
from benchmarks.contenders import peers
from benchmarks.contenders.process import contender, run_lap
from benchmarks.pictures import jpeg_folder
from benchmarks.record import OUT, facts_line, table, write
from trainers.config import DataConfig, EvaluationConfig, ImbalanceConfig, OptimConfig

SIZE, BATCH, IMAGES, EPOCHS = 32, 64, 128, 2


def spec(num_trials: int, root: Path) -> ablation.StudySpec:
    """Tiny trainings, so that what is not training shows."""
    return ablation.StudySpec(
        name="orchestration", data=DataConfig(dataset="folder", root=str(root), image_size=SIZE), allow_tiny=True,
        imbalance=ImbalanceConfig(total=IMAGES),
        grid=Grid(method=("simclr",), backbone=("resnet18",), imbalance=(0.5,), seed=tuple(range(num_trials))),
        train=OptimConfig(epochs=EPOCHS, batch_size=BATCH),
        evaluation=EvaluationConfig(fixed_labelled=64, view_images=8, views_per_image=2))


def measure(num_trials: int, root: Path) -> dict[str, Any]:
    """One study, one process per core; no cache is there yet."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ABLATION_CACHE"] = str(Path(folder) / "cache")
        begun = time.time()
        plan = ablation.plan(spec(num_trials, root), store=folder)
        frame = ablation.run(plan).trials_dataframe()
        wall = time.time() - begun
        states = [plan.store.read_state(key) for key in frame["key"]]
    assert (frame["state"] == "FINISHED").all(), frame["reason"].dropna().tolist()
    work = float((frame["metrics.time/train"] + frame["metrics.time/evaluate"]).sum())
    slots = _slots(states)
    steady = max(s.finished or 0 for s in states) - min(s.started or 0 for s in states)
    return {"what": "study", "trials": num_trials, "at once": slots, "wall s": wall, "steady s": steady, "work s": work,
            "overhead/trial, all": (wall * slots - work) / num_trials,
            "overhead/trial, steady": (steady * slots - work) / num_trials}


def measure_peer(peer: str, num_trials: int, root: Path) -> dict[str, Any]:
    """As many processes of a peer's script, one after the other."""
    command = peers.command(peer)
    options = {"method": "simclr", "backbone": "resnet18", "size": SIZE, "batch": BATCH, "bf16": False, "core": None,
               "steps": EPOCHS * IMAGES // BATCH, "images": str(root / "train"), "device": "cpu"}
    begun, work = time.time(), 0.0
    for _ in range(num_trials):
        with contender(command, options) as process:
            work += run_lap(process).seconds
    wall = time.time() - begun
    return {"what": f"{peer}, one process a trial", "trials": num_trials, "at once": 1, "wall s": wall,
            "steady s": wall, "work s": work, "overhead/trial, all": (wall - work) / num_trials,
            "overhead/trial, steady": (wall - work) / num_trials}


def _slots(states: list[Any]) -> int:
    """Most trials that ran at the same moment."""
    return max(sum(other.started <= state.started < other.finished for other in states) for state in states)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("num_trials", nargs="?", type=int, default=24)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--no-peer", action="store_true")
    chosen = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    root = jpeg_folder(1024, 256)
    rows = []
    for _ in range(chosen.pairs):
        rows.append(measure(chosen.num_trials, root))
        if not chosen.no_peer:
            rows.append(measure_peer("lightly", chosen.num_trials, root))
            rows[-1]["wall / ours"] = rows[-1]["wall s"] / rows[-2]["wall s"]
            rows[-2]["wall / ours"] = 1.0
    print(table(rows), facts_line(), sep="\n")
    print(write("orchestration", rows))


if __name__ == "__main__":
    main()
