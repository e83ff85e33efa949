"""What a study's trials come to when nothing happens to them: trained in this process, without Ray."""

from __future__ import annotations

from pathlib import Path

import ablation
from ablation.store import StudyStore
from trainers.records import EpochReport, RunContext, TrainResult
from trainers.train import train

MOODS = ("time/", "memory/", "train/images_per_second", "train/data_wait")
"""Numbers of the machine, not of the trial."""


def numbers(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith(MOODS)}


def assert_equal_to_undisturbed(study_file: Path, study: StudyStore, cache: Path, folder: Path) -> None:
    """Every planned trial FINISHED, with every epoch once and every number of an undisturbed run, to the last bit."""
    plan = ablation.plan(ablation.StudySpec.load(str(study_file)), store=study.path.parent)
    assert [trial.key for trial in plan.pending()] == []
    assert study.planned_keys() == [trial.key for trial in plan.trials]
    assert sorted(study.planned_keys()) == study.keys_on_disk()
    for trial in plan.trials:
        (folder / trial.key).mkdir(parents=True)
        context = RunContext(trial_dir=folder / trial.key, cache_dir=cache, threads=1)
        items = list(train(trial.config, context))
        epochs = [(item.epoch, numbers(item.metrics)) for item in items if isinstance(item, EpochReport)]
        assert [(record["epoch"], numbers(record["metrics"])) for record in study.read_history(trial.key)] == epochs
        result = study.read_result(trial.key)
        assert result is not None
        assert isinstance(items[-1], TrainResult)
        assert numbers(result["metrics"]) == numbers(items[-1].metrics)
    assert [path for path in study.path.rglob(".tmp-*") if path.is_file()] == []
