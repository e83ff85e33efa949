"""MLflow for a team: eight drivers log into one fresh PostgreSQL at once, and no value is lost."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import optuna
import pytest

from ablation.ledger import Ledger
from ablation.store import Store, StudyStore
from ablation.tracking import BackgroundMirror, Mirror
from tests.ablation.searches import Bench, spec
from tests.integration.postgres import running_postgres
from trainers.records import EpochReport, TrainResult

DRIVERS, EPOCHS = 8, 60
KEY = "simclr-resnet18-p0.1-s0-00000000"


def value(driver: int, epoch: int) -> float:
    return driver + epoch / 1000


def planned(store: Store, driver: int) -> StudyStore:
    study = store.study(f"team{driver}")
    study.write_plan({"trials": [{"key": KEY}]})
    config = {"method": "simclr", "backbone": "resnet18", "imbalance": 0.1, "seed": 0, "train": {"epochs": EPOCHS}}
    study.write_trial(KEY, {"key": KEY, "config": config})
    return study


def drive(root: Path, driver: int, tracking: str, warnings: Queue[str], start: Barrier) -> None:
    """One process: a trial that reports every few milliseconds beside the thread that copies it."""
    from mlflow import MlflowClient

    assert MlflowClient  # imported before the race
    store = Store(root)
    start.wait(150)
    mirror = BackgroundMirror(Mirror(store, store.study(f"team{driver}"), tracking), warnings.put, period=0.05)
    ledger = Ledger(store.study(f"team{driver}"), KEY, EPOCHS)
    for epoch in range(1, EPOCHS + 1):
        ledger.report(EpochReport(epoch, epoch, time.time(), {"train/loss": value(driver, epoch), "train/lr": 0.1}))
        mirror.touch(KEY)
        time.sleep(0.02)
    ledger.finish(TrainResult({"probe/auroc": value(driver, 0)}, EPOCHS, EPOCHS, {"code": "none"}))
    mirror.finish(None)


def test_eight_trials_log_at_once_and_no_value_is_lost(tmp_path: Path) -> None:
    store = Store(tmp_path / "studies")
    studies = [planned(store, driver) for driver in range(DRIVERS)]
    context = multiprocessing.get_context("spawn")
    warnings, start = context.Queue(), context.Barrier(DRIVERS)  # they find an empty database together
    with running_postgres(tmp_path) as uri:
        tracking = uri.replace("postgresql://", "postgresql+psycopg2://")
        drivers = [context.Process(target=drive, args=(store.root, driver, tracking, warnings, start), daemon=True)
                   for driver in range(DRIVERS)]
        for process in drivers:
            process.start()
        for process in drivers:
            process.join(timeout=240)
        assert [process.exitcode for process in drivers] == [0] * DRIVERS
        assert warnings.empty(), warnings.get()
        Mirror(store, studies[0], tracking).finish()  # a second driver brings nothing twice

        from mlflow import MlflowClient

        client = MlflowClient(tracking)
        for driver, study in enumerate(studies):
            experiment = client.get_experiment_by_name(study.name)
            assert experiment is not None
            runs = client.search_runs([experiment.experiment_id])
            assert sorted(str(run.info.run_name) for run in runs) == [KEY, study.name]
            child = next(run for run in runs if run.info.run_name == KEY)
            points = client.get_metric_history(child.info.run_id, "train/loss")
            expected = [(epoch, value(driver, epoch)) for epoch in range(1, EPOCHS + 1)]
            assert sorted((point.step, point.value) for point in points) == expected
            assert child.info.status == "FINISHED"
            assert child.data.metrics["probe/auroc"] == value(driver, 0)


def test_samplers_of_a_search_share_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_postgres(tmp_path) as uri:
        storage = uri.replace("postgresql://", "postgresql+psycopg2://")
        monkeypatch.setenv("ABLATION_OPTUNA_STORAGE", storage)
        for name in ("one", "two"):
            Bench.of(spec(name, num_samples=3), tmp_path).run(stop_after=12)
            Bench.of(spec(name, num_samples=3), tmp_path).run()
        told = {summary.study_name: summary.n_trials for summary in optuna.study.get_all_study_summaries(storage)}
        assert sorted(told.values()) == [3, 3]
        assert {name.split("/")[0] for name in told} == {"one", "two"}
        assert not (tmp_path / "one" / "search" / "optuna.db").exists()
