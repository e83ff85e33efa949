"""Every mistake: one line on stderr that names file, field or image and the fix, exit 2, nothing half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.integration.studies import ablation, write_study

FOLDER = """\
name: parts
data: {dataset: folder, root: parts, image_size: 16}
imbalance: {total: 60}
grid: {method: [simclr], backbone: [resnet18], imbalance: [0.5], seed: [0]}
train: {epochs: 1, batch_size: 32}
"""


@pytest.mark.parametrize(("change", "expected"), [
    ("train.lrr=1", "train.lrr: unknown field (did you mean 'lr'?)"),
    ("grid.method=[simclrr]", "did you mean 'simclr'?"),
    ("grid.backbone=[resnet81]", "did you mean"),
    ("data.dataset=digitz", "did you mean 'digits'?"),
    ("data.options={anomaly: 12}", "anomaly"),
    ("imbalance.total=100000", "total"),
    ("train.batch_size=97", "train.batch_size"),
    ("resources.gpus_per_worker=1", "resources.gpus_per_worker: 1 x 1 rank(s) asked for"),
    ("resources.num_workers=64", "num_workers"),
    ("train.options={temprature: 1}", "did you mean 'temperature'?"),
    ("grid.method=[mae]", "data.image_size: mae on resnet18 hides cells of 16 px"),
])
def test_a_mistake_in_the_study(tmp_path: Path, change: str, expected: str) -> None:
    if "gpus" in change and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = ablation(tmp_path, "run", write_study(tmp_path), change)
    assert done.returncode == 2, done.stderr
    line = next((line for line in done.stderr.splitlines() if expected in line), None)
    assert line is not None, done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "studies").rglob("result.json"))


def test_the_line_of_the_study_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(FOLDER + "evaluation:\n  every: -1\n  tests: 3\n")
    done = ablation(tmp_path, "validate", path)
    assert done.returncode == 2
    assert "study.yaml:7: evaluation.every: must be 1 or more, got -1" in done.stderr
    assert "study.yaml:8: evaluation.tests: unknown field" in done.stderr


def pictures(root: Path, split: str, kind: str, count: int) -> None:
    folder = root / split / kind
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(len(kind))
    for number in range(count):
        Image.fromarray(generator.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(folder / f"{number}.png")


def make_parts(folder: Path) -> Path:
    for split, count in (("train", 60), ("val", 20)):
        for kind in ("normal", "scratch"):
            pictures(folder / "parts", split, kind, count)
    path = folder / "study.yaml"
    path.write_text(FOLDER)
    return path


def test_a_missing_root_and_an_empty_class(tmp_path: Path) -> None:
    path = make_parts(tmp_path)
    gone = ablation(tmp_path, "plan", path, "data.root=nowhere")
    assert gone.returncode == 2
    assert "nowhere" in gone.stderr
    for image in (tmp_path / "parts" / "train" / "scratch").iterdir():
        image.unlink()
    empty = ablation(tmp_path, "plan", path)
    assert empty.returncode == 2
    assert "scratch" in empty.stderr


def test_a_level_that_cannot_be_met_says_the_numbers(tmp_path: Path) -> None:
    done = ablation(tmp_path, "plan", make_parts(tmp_path), "grid.imbalance=[0.05, 0.5]")
    assert done.returncode == 2
    assert "3 defects" in done.stderr
    assert "--allow-tiny" in done.stderr
    let_through = ablation(tmp_path, "plan", tmp_path / "study.yaml", "grid.imbalance=[0.05, 0.5]", "--allow-tiny")
    assert let_through.returncode == 0, let_through.stderr


def test_one_corrupt_image_is_named_and_left_out_and_many_stop_the_run(tmp_path: Path) -> None:
    path = make_parts(tmp_path)
    for number in range(5):
        (tmp_path / "parts" / "train" / "normal" / f"{number}.png").write_bytes(b"not a picture")
    done = ablation(tmp_path, "run", path, "imbalance.total=120")
    assert done.returncode == 2, done.stderr
    assert "train/normal/0.png" in done.stderr
    assert not list((tmp_path / "studies").rglob("result.json"))


def test_an_unreadable_row_is_named(tmp_path: Path) -> None:
    table = tmp_path / "parts.csv"
    table.write_text("path,label,split\na.png,0,train\nb.png,maybe,train\n")
    path = make_parts(tmp_path)
    done = ablation(tmp_path, "plan", path, "data.dataset=table", f"data.root={table}")
    assert done.returncode == 2
    assert "parts.csv:3: label" in done.stderr


def test_plan_of_the_paper_needs_a_root_that_exists(tmp_path: Path) -> None:
    done = ablation(tmp_path, "plan", "paper")
    assert done.returncode == 2
    assert "sewer-ml" in done.stderr
