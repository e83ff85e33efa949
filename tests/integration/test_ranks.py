"""``num_workers: 2``: every method trains in two real processes through Ray."""

from __future__ import annotations

from pathlib import Path

import ablation as package
from tests.integration.studies import ablation, write_study
from trainers.names import METHOD_NAMES


def test_every_method_trains_with_two_processes(tmp_path: Path) -> None:
    path = write_study(tmp_path, METHOD_NAMES, num_workers=2)
    path.write_text(path.read_text().replace("image_size: 16", "image_size: 32"))
    done = ablation(tmp_path, "run", path)
    assert done.returncode == 0, done.stderr
    frame = package.load_study("tiny", store=tmp_path / "studies").trials_dataframe()
    assert sorted(frame["method"]) == sorted(METHOD_NAMES)
    assert (frame["provenance.num_workers"] == 2).all()
    alone = ablation(tmp_path, "run", path, "name=alone", "grid.method=[barlow_twins]", "resources.num_workers=1")
    assert alone.returncode == 0, alone.stderr
    single = package.load_study("alone", store=tmp_path / "studies").trials_dataframe()
    joint = frame[frame["method"] == "barlow_twins"]
    assert joint["key"].item() == single["key"].item()  # the number of ranks is no part of what a trial is
    difference = abs(joint["metrics.train/loss"].item() / single["metrics.train/loss"].item() - 1)
    assert difference < 0.02  # bf16 on processors that have it
