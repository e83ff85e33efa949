"""A search without Ray: trials that only write what a real one would, at a score that a formula gives."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablation.plan import Plan, plan
from ablation.search import SearchRun
from ablation.spec import StudySpec
from ablation.store import TrialState, TrialStatus
from ablation.trial import Trial

EPOCHS = 9


def spec(name: str = "s", grid: dict[str, Any] | None = None, train: dict[str, Any] | None = None,
         **search: Any) -> StudySpec:
    """One cell of SimCLR on digits, scored after every epoch; ``search`` as in the study file."""
    return StudySpec.from_dict({
        "name": name, "data": {"dataset": "digits", "image_size": 32}, "allow_tiny": True,
        "imbalance": {"policy": "fixed_total", "total": 100},
        "grid": {"method": ["simclr"], "backbone": ["resnet18"], "imbalance": [0.1], "seed": [0, 1]} | (grid or {}),
        "train": {"epochs": EPOCHS} | (train or {}), "evaluation": {"every": 1},
        "search": {"num_samples": 6, "n_startup": 3} | search})


def closeness(trial: Trial) -> float:
    """1 at a learning rate of 1e-3, less by the decades between."""
    return 1 - abs(math.log10(trial.config.train.lr or 1e-3) + 3) / 2


@dataclasses.dataclass
class Bench:
    """Takes trials from a ``SearchRun`` as Tune would, ``slots`` at once, one epoch of each in turn."""

    planned: Plan
    score: Callable[[Trial], float] = closeness
    slots: int = 2
    warnings: list[str] = dataclasses.field(default_factory=list)
    begun: list[str] = dataclasses.field(default_factory=list)
    epochs: int = 0
    fails: Callable[[Trial], bool] = lambda trial: False

    @classmethod
    def of(cls, study: StudySpec, store: Path, **more: Any) -> Bench:
        return cls(plan(study, store=store), **more)

    def run(self, stop_after: int | None = None) -> SearchRun:
        """To the end, or until so many epochs have been trained: then nothing is written any more, as after a kill."""
        assert self.planned.search is not None
        self.planned.search.refresh()
        self.planned.save()
        run = SearchRun(self.planned, self.warnings.append)
        active: list[tuple[Trial, int]] = []
        while True:
            while len(active) < self.slots and (trial := run.next()) is not None:
                self.begun.append(trial.key)
                self.planned.store.clear_stop(trial.key)
                active.append((trial, self.planned.search.reached(trial)))
                self._state(trial, TrialState.RUNNING)
            if not active:
                return run
            trial, epoch = active.pop(0)
            if self.planned.store.stop_requested(trial.key):
                self._state(trial, TrialState.STOPPED, "pruned")
                run.ended(trial.key)
            elif self.fails(trial):
                self._state(trial, TrialState.FAILED, "diverged")
                run.ended(trial.key)
            elif epoch == trial.config.train.epochs:
                self._finish(trial)
                run.ended(trial.key)
            else:
                if self.epochs == stop_after:
                    return run
                self.epochs += 1
                self._epoch(trial, epoch + 1)
                run.epoch_ended(trial.key, epoch + 1)
                active.append((trial, epoch + 1))

    def _numbers(self, trial: Trial, epoch: int) -> dict[str, float]:
        value = self.score(trial) * (0.5 + 0.5 * epoch / trial.config.train.epochs)
        return {"validation/auroc": value, "label_free/rankme": 10 * value, "probe/auroc": 1 - value}

    def _epoch(self, trial: Trial, epoch: int) -> None:
        store = self.planned.store
        store.truncate_history(trial.key, epoch - 1)
        store.append_history(trial.key, {"epoch": epoch, "step": epoch, "time": 0.0, "metrics": self._numbers(
            trial, epoch) | {"train/images_per_second": 100.0}})

    def _finish(self, trial: Trial) -> None:
        numbers = self._numbers(trial, trial.config.train.epochs)
        self.planned.store.write_result(trial.key, {
            "metrics": {"probe/auroc": numbers["probe/auroc"], "label_free/rankme": numbers["label_free/rankme"],
                        "time/train": float(trial.config.train.batch_size or 0)},
            "further": {"validation/auroc": numbers["validation/auroc"]}, "epochs": trial.config.train.epochs,
            "steps": 1, "provenance": {}, "flags": []})
        self._state(trial, TrialState.FINISHED)

    def _state(self, trial: Trial, state: TrialState, reason: str | None = None) -> None:
        self.planned.store.write_state(trial.key, TrialStatus(
            state=state, reason=reason, heartbeat=time.time(), started=time.time(), attempt=1))
