"""``num_workers: 2``: two real processes a trial through Ray. Every method in two processes: tests/distributed."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

import ablation as package
from tests.integration.studies import ablation, environment, write_study
from tests.integration.undisturbed import train_here
from tests.trainers import own_parts
from tests.trainers.methods.steps import EXAMPLE


def test_methods_and_metrics_from_outside_train_with_two_processes(tmp_path: Path) -> None:
    path = write_study(tmp_path, ["barlow_twins", EXAMPLE], num_workers=2)
    text = path.read_text().replace("image_size: 16", "image_size: 32")
    path.write_text(text.replace("views_per_image: 2", f"views_per_image: 2, metrics: ['{own_parts.__file__}:gap']"))
    done = ablation(tmp_path, "run", path)
    assert done.returncode == 0, done.stderr
    frame = package.load_study("tiny", store=tmp_path / "studies").trials_dataframe()
    assert sorted(frame["method"]) == ["barlow_twins", "vicreg"]
    assert (frame["metrics.custom/gap"] > 0).all()
    assert (frame["provenance.num_workers"] == 2).all()
    mlflow = MlflowClient(f"sqlite:///{tmp_path}/studies/mlflow.db")
    [run] = mlflow.search_runs(["1"], "tags.method = 'vicreg'")
    assert run.data.params["method"] == "vicreg"
    assert run.data.metrics["custom/gap"] == frame.set_index("method").loc["vicreg", "metrics.custom/gap"]
    assert len(run.data.metrics) <= 40
    alone = package.StudySpec.load(str(path), ["grid.method=[barlow_twins]", "resources.num_workers=1"])
    [trial] = package.plan(alone, store=tmp_path / "alone").trials
    joint = frame[frame["method"] == "barlow_twins"]
    assert joint["key"].item() == trial.key  # the number of ranks is no part of what a trial is
    _, single = train_here(trial, Path(environment(tmp_path)["ABLATION_CACHE"]), tmp_path / "alone")
    difference = abs(joint["metrics.train/loss"].item() / single.metrics["train/loss"] - 1)
    assert difference < 0.02  # bf16 on processors that have it
