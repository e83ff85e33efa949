"""One trial, one writer: what is left over from a driver that was killed may say no more."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ablation.errors import StoreError
from ablation.ledger import Ledger
from ablation.store import StudyStore, TrialState
from trainers.records import EpochReport, TrainResult


def epoch(number: int) -> EpochReport:
    return EpochReport(number, number, time.time(), {"train/loss": float(number)})


def test_a_process_whose_trial_was_taken_over_may_not_write(tmp_path: Path) -> None:
    study = StudyStore(tmp_path)
    left_over = Ledger(study, "trial", epochs=3)
    left_over.report(epoch(1))
    new = Ledger(study, "trial", epochs=3)
    new.report(epoch(1))
    for write in (lambda: left_over.report(epoch(2)), lambda: left_over.fail("error", "late", "late"),
                  lambda: left_over.finish(TrainResult({}, 3, 3, {})), left_over.stop):
        with pytest.raises(StoreError, match="taken this trial over"):
            write()
    status = study.read_state("trial")
    assert (status.state, status.attempt, status.epoch) == (TrialState.RUNNING, 2, 1)
    assert study.read_result("trial") is None
    assert study.read_error("trial") is None
    assert [record["epoch"] for record in study.read_history("trial")] == [1]
    new.report(epoch(2))
    new.finish(TrainResult({"probe/auroc": 0.5}, 3, 3, {}))
    assert study.read_state("trial").state is TrialState.FINISHED
