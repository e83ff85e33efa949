"""A warm process takes trial after trial: what was trained before changes no bit of what comes after."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from ablation.store import StudyStore
from trainers.config import DataConfig, EvaluationConfig, ImbalanceConfig, OptimConfig, TrainConfig

IN_TURN = """
import json, sys
from ablation.worker import Job, Rank
rank, ended = Rank(0), []
for job in json.load(sys.stdin):
    rank.open(Job(**job), None)
    reports = []
    try:
        while (item := rank.advance()) is not None:
            reports.append(item.metrics)
    except Exception as error:
        reports = [type(error).__name__]
    rank.close()
    ended.append(reports)
print(json.dumps(ended))
"""


def job(folder: Path, method: str, backbone: str, lr: float | None = None, **train: Any) -> dict[str, Any]:
    config = TrainConfig(
        method=method, backbone=backbone, imbalance=0.2, data=DataConfig(dataset="digits", image_size=32),
        subset=ImbalanceConfig(total=64), train=OptimConfig(epochs=2, batch_size=32, lr=lr, **train), allow_tiny=True,
        evaluation=EvaluationConfig(max_images=100, fixed_labelled=40, view_images=8, views_per_image=2))
    key = f"{method}-{backbone}"
    StudyStore(folder).trial_dir(key).mkdir(parents=True)
    return {"key": key, "config": config.to_dict(), "study_dir": str(folder), "cache_dir": str(folder / "cache"),
            "num_workers": 1, "cpus": 1, "gpus": 0.0}


def run_in_turn(jobs: list[dict[str, Any]]) -> list[Any]:
    done = subprocess.run([sys.executable, "-c", IN_TURN], input=json.dumps(jobs), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def numbers(reports: list[dict[str, float]]) -> list[dict[str, float]]:
    """Without what a clock or the memory of the process says."""
    clocks = ("time/", "memory/", "train/images_per_second", "train/data_wait")
    return [{key: value for key, value in metrics.items() if not key.startswith(clocks)} for metrics in reports]


def test_nothing_of_the_trials_before_is_left(tmp_path: Path) -> None:
    """Other methods, precisions and determinism before it, and one that diverged in the middle of an epoch."""
    method, backbone = "byol", "test_resnet"
    [alone] = run_in_turn([job(tmp_path / "alone", method, backbone)])
    before = [job(tmp_path / "warm", "dino", "test_resnet", precision="bf16"),
              job(tmp_path / "warm", "simclr", "vit_tiny", lr=1e30),
              job(tmp_path / "warm", "supervised", "test_resnet", determinism="strict", precision="fp32")]
    *others, warm = run_in_turn([*before, job(tmp_path / "warm", method, backbone)])
    assert [len(reports) for reports in others] == [3, 1, 3]
    assert others[1] == ["TrainingError"]
    assert len(warm) == 3
    assert numbers(warm) == numbers(alone)
    weights = [load_file(StudyStore(tmp_path / where).trial_dir(f"{method}-{backbone}") / "encoder.safetensors")
               for where in ("alone", "warm")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
