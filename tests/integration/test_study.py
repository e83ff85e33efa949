"""From one command to a report: real Ray, real SQLite, real processes, on a study of seconds."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

import ablation as package
from ablation.store import Store
from ablation.tracking import Mirror
from tests.integration.studies import ablation, write_study

# One trial is made to fail: no float survives this learning rate.
FAILING = "overrides: [{where: {method: supervised}, set: {train.lr: 1.0e+30}}]"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after ``ablation run`` of two good trials and one that fails."""
    folder = tmp_path_factory.mktemp("study")
    path = write_study(folder, ["simclr", "barlow_twins", "supervised"], epochs=2, more=FAILING)
    done = ablation(folder, "run", path, report=True)
    assert done.returncode == 3, done.stderr
    (folder / "first.out").write_text(done.stdout)
    (folder / "first.err").write_text(done.stderr)
    return folder


def client(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder / 'studies' / 'mlflow.db'}")


def runs(folder: Path) -> list[dict[str, str]]:
    mlflow = client(folder)
    experiment = mlflow.get_experiment_by_name("tiny")
    assert experiment is not None
    return [{**run.data.tags, "status": run.info.status, "name": run.info.run_name, "id": run.info.run_id}
            for run in mlflow.search_runs([experiment.experiment_id])]


def test_run_ends_with_scores_the_report_and_the_failure(study: Path) -> None:
    out, err = (study / "first.out").read_text(), (study / "first.err").read_text()
    report = study / "studies" / "tiny" / "report" / "report.html"
    assert f"report: {report}" in out
    assert "probe/auroc" in out
    assert "diverged" in err
    assert "[3/3]" in err
    assert "<svg" in report.read_text()
    assert "Traceback" not in err


def test_every_planned_trial_is_a_row_failed_ones_included(study: Path) -> None:
    frame = package.load_study("tiny", store=study / "studies").trials_dataframe()
    assert len(frame) == 3
    by_method = frame.set_index("method")
    assert by_method.loc["supervised", "state"] == "FAILED"
    assert by_method.loc["supervised", "reason"] == "diverged"
    assert (by_method.drop("supervised")["state"] == "FINISHED").all()
    assert by_method.drop("supervised")["metrics.probe/auroc"].between(0, 1).all()
    history = package.load_study("tiny", store=study / "studies").history()
    assert history[history["metric"] == "train/loss"].groupby("key").size().max() == 2


def test_mlflow_holds_one_parent_and_one_child_per_trial(study: Path) -> None:
    found = runs(study)
    parents = [run for run in found if "mlflow.parentRunId" not in run]
    children = [run for run in found if "mlflow.parentRunId" in run]
    assert len(parents) == 1
    assert {run["mlflow.parentRunId"] for run in children} == {parents[0]["id"]}
    assert sorted(run["status"] for run in children) == ["FAILED", "FINISHED", "FINISHED"]
    finished = next(run for run in children if run["method"] == "simclr")
    assert finished["name"].startswith("simclr-resnet18-p0.1-s0-")
    factors = [finished[name] for name in ("backbone", "imbalance", "seed", "state")]
    assert factors == ["resnet18", "0.1", "0", "FINISHED"]
    assert finished["provenance.torch"]
    mlflow = client(study)
    loss = mlflow.get_metric_history(finished["id"], "train/loss")
    assert [point.step for point in loss] == [1, 2, 2]  # two epochs, and the result's own value
    run = mlflow.get_run(finished["id"])
    assert "probe/auroc" in run.data.metrics
    assert len(run.data.metrics) <= 40
    names = {artifact.path for artifact in mlflow.list_artifacts(finished["id"])}
    assert {"config.json", "encoder.safetensors", "contact_sheet.png"} <= names
    [dataset] = run.inputs.dataset_inputs
    assert dataset.dataset.name == "digits"
    assert dataset.dataset.digest == run.data.tags["data_digest"]
    parent = mlflow.get_run(parents[0]["id"])
    assert "report" in {artifact.path for artifact in mlflow.list_artifacts(parents[0]["id"])}
    assert "| simclr | resnet18 |" in parent.data.tags["mlflow.note.content"]
    load = {name.rsplit("/", 1)[1] for name in parent.data.metrics if name.startswith("system/")}
    assert load == {"cpu_utilization_percentage", "system_memory_usage_percentage"}
    assert len(parent.data.metrics) <= 40


def test_copying_to_mlflow_again_adds_nothing(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = runs(study)
    store = Store(study / "studies")
    attached: list[str] = []
    monkeypatch.setattr(Mirror, "_attach", lambda self, run, key, names: attached.append(key))
    Mirror(store, store.study("tiny")).finish(store.study("tiny").path / "report")
    assert attached == []  # a new driver does not send the encoders of finished trials again
    after = runs(study)
    assert {run["id"] for run in after} == {run["id"] for run in before}
    identity = next(run["id"] for run in after if run.get("method") == "simclr")
    assert len(client(study).get_metric_history(identity, "train/loss")) == 3


def test_a_new_seed_runs_only_what_is_new(study: Path) -> None:
    store = Store(study / "studies").study("tiny")
    before = {key: (store.trial_dir(key) / "result.json").stat().st_mtime_ns for key in store.planned_keys()
              if (store.trial_dir(key) / "result.json").exists()}
    done = ablation(study, "run", study / "study.yaml", "grid.method=[simclr,barlow_twins]", "grid.seed=[0,1]")
    assert done.returncode == 0, done.stderr
    assert "4 trials, 2 to run" in done.stderr
    assert "start    simclr-resnet18-p0.1-s0" not in done.stderr
    after = {key: (store.trial_dir(key) / "result.json").stat().st_mtime_ns for key in before}
    assert after == before
    begun = time.monotonic()
    again = ablation(study, "run", study / "study.yaml", "grid.method=[simclr,barlow_twins]", "grid.seed=[0,1]")
    assert again.returncode == 0
    assert "4 trials, 0 to run" in again.stderr
    assert "starting a local Ray" not in again.stderr
    assert time.monotonic() - begun < 60  # a hang, not a speed claim


@pytest.mark.parametrize("format", ["json", "csv", "md", "table"])
def test_read_commands_speak_every_format(study: Path, format: str) -> None:
    done = ablation(study, "results", "tiny", "--format", format)
    assert done.returncode == 0, done.stderr
    if format == "json":
        assert all(row["key"] for row in json.loads(done.stdout))
    elif format == "csv":
        assert "metrics.probe/auroc" in done.stdout.splitlines()[0]
    else:
        assert "probe/auroc" in done.stdout


def test_status_best_report_and_gate(study: Path) -> None:
    assert "tiny" in ablation(study, "status").stdout
    assert "FINISHED" in ablation(study, "status", "tiny").stdout
    best = ablation(study, "best", "tiny", "--by", "imbalance", "--format", "json")
    assert len(json.loads(best.stdout)) == 1
    report = ablation(study, "report", "tiny", "--out", study / "again")
    assert Path(report.stdout.strip()).is_file()
    assert pd.read_csv(study / "again" / "tables" / "trials.csv").shape[0] >= 3
    gate = ablation(study, "run", study / "study.yaml", "grid.method=[simclr]", "--fail-under", "probe/auroc=1.1")
    assert gate.returncode == 5, gate.stderr
    missing = ablation(study, "results", "tiny", "--where", "seed == 99")
    assert missing.returncode == 4
    unknown = ablation(study, "results", "tinny")
    assert unknown.returncode == 4
    assert "did you mean 'tiny'" in unknown.stderr
