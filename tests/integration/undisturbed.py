"""What a study's trials come to when nothing happens to them: trained in this process, without Ray."""

from __future__ import annotations

from pathlib import Path

import ablation
from ablation.store import StudyStore
from ablation.trial import Trial
from trainers.records import EpochReport, RunContext, TrainResult
from trainers.train import train

MOODS = ("time/", "memory/", "train/images_per_second", "train/data_wait")
"""Numbers of the machine, not of the trial."""


def numbers(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith(MOODS)}


def train_here(trial: Trial, cache: Path, folder: Path) -> tuple[list[tuple[int, dict[str, float]]], TrainResult]:
    """Epochs with their numbers, and the result, by one process."""
    (folder / trial.key).mkdir(parents=True)
    items = list(train(trial.config, RunContext(trial_dir=folder / trial.key, cache_dir=cache, threads=1)))
    assert isinstance(items[-1], TrainResult)
    return [(item.epoch, numbers(item.metrics)) for item in items if isinstance(item, EpochReport)], items[-1]


def assert_equal_to_undisturbed(study_file: Path, study: StudyStore, cache: Path, folder: Path) -> None:
    """Every planned trial FINISHED, with every epoch once and every number of an undisturbed run, to the last bit."""
    plan = ablation.plan(ablation.StudySpec.load(str(study_file)), store=study.path.parent)
    assert [trial.key for trial in plan.pending()] == []
    assert study.planned_keys() == [trial.key for trial in plan.trials]
    assert sorted(study.planned_keys()) == study.keys_on_disk()
    for trial in plan.trials:
        epochs, expected = train_here(trial, cache, folder)
        assert [(record["epoch"], numbers(record["metrics"])) for record in study.read_history(trial.key)] == epochs
        result = study.read_result(trial.key)
        assert result is not None
        assert numbers(result["metrics"]) == numbers(expected.metrics)
