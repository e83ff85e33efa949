"""``num_workers: 2``: every method trains in two real processes through Ray."""

from __future__ import annotations

from pathlib import Path

import ablation as package
from tests.integration.studies import ablation, environment, write_study
from tests.integration.undisturbed import train_here
from trainers.names import METHOD_NAMES


def test_every_method_trains_with_two_processes(tmp_path: Path) -> None:
    path = write_study(tmp_path, METHOD_NAMES, num_workers=2)
    path.write_text(path.read_text().replace("image_size: 16", "image_size: 32"))
    done = ablation(tmp_path, "run", path)
    assert done.returncode == 0, done.stderr
    frame = package.load_study("tiny", store=tmp_path / "studies").trials_dataframe()
    assert sorted(frame["method"]) == sorted(METHOD_NAMES)
    assert (frame["provenance.num_workers"] == 2).all()
    alone = package.StudySpec.load(str(path), ["grid.method=[barlow_twins]", "resources.num_workers=1"])
    [trial] = package.plan(alone, store=tmp_path / "alone").trials
    joint = frame[frame["method"] == "barlow_twins"]
    assert joint["key"].item() == trial.key  # the number of ranks is no part of what a trial is
    _, single = train_here(trial, Path(environment(tmp_path)["ABLATION_CACHE"]), tmp_path / "alone")
    difference = abs(joint["metrics.train/loss"].item() / single.metrics["train/loss"] - 1)
    assert difference < 0.02  # bf16 on processors that have it
