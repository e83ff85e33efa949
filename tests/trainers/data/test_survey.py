"""Copies, leaks, flat and broken pictures of real files are found and named, whatever format a copy has."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Call
from tests.trainers.data.conftest import write_image
from trainers.data.folder import Folder
from trainers.data.survey import choose, problems, survey

STUDY = "name: parts\ndata: {dataset: folder, root: parts, image_size: 16}\n"


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Twelve pictures of 12 x 12, and one of each problem."""
    root = tmp_path / "parts"
    for number in range(12):
        split = "train" if number < 8 else "test"
        write_image(root / split / ("good" if number % 2 else "kräftig gekratzt") / f"Bild {number} ü.png", number)
    good, bad = root / "train" / "good", root / "train" / "kräftig gekratzt"
    Image.open(good / "Bild 1 ü.png").save(root / "test" / "good" / "another name.bmp")
    shutil.copy(good / "Bild 3 ü.png", good / "again.png")
    shutil.copy(good / "Bild 5 ü.png", bad / "not a scratch.png")
    Image.new("RGB", (30, 20), (7, 7, 7)).save(good / "lens cap.png")
    (good / "broken.png").write_bytes(b"nothing")
    for name in ("notes.txt", "more.TXT", "photo.heic", "._resource.png"):
        (good / name).touch()
    return root


def test_each_problem_is_found_with_its_original(parts: Path) -> None:
    dataset = Folder(str(parts), Folder.Options())
    said: list[str] = []
    found = survey(dataset, choose(dataset.index, 0), said.append)
    wrong = problems(dataset.index, found)
    assert [(item.problem, item.image, item.split) for item in wrong] == [
        ("leak", "test/good/another name.bmp", "test"), ("contradiction", "train/kräftig gekratzt/not a scratch.png",
                                                         "train"),
        ("duplicate", "train/good/again.png", "train"), ("flat", "train/good/lens cap.png", "train"),
        ("corrupt", "train/good/broken.png", "train")]
    assert wrong[0].detail == "the same pixels as train/good/Bild 1 ü.png (train, normal)"
    assert wrong[1].detail == "the same pixels as train/good/Bild 5 ü.png (train, normal)"
    names = dataset.index.ids.tolist()
    assert found.sizes[names.index("train/good/lens cap.png")].tolist() == [30, 20]
    assert found.sizes[names.index("train/good/broken.png")].tolist() == [0, 0]
    assert dataset.left_out == {"files ending in .txt": 2, "files ending in .heic": 1}


def test_a_sample_is_the_same_twice_and_says_that_it_is_one(parts: Path) -> None:
    index = Folder(str(parts), Folder.Options()).index
    chosen = choose(index, 5)
    assert len(chosen) == 5
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, choose(index, 5))
    assert len(choose(index, 1000)) == len(index)


def test_equal_bytes_in_another_shape_are_no_copy(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 4, 3), dtype=np.uint8)
    for split, image in (("train", pixels), ("val", pixels.reshape(4, 8, 3))):
        (tmp_path / split / "good").mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / split / "good" / "a.png")
    dataset = Folder(str(tmp_path), Folder.Options())
    assert problems(dataset.index, survey(dataset, choose(dataset.index, 0), print)) == []


def test_the_command_prints_counts_and_checks_or_the_pictures(parts: Path, call: Call,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(parts.parent)
    Path("study.yaml").write_text(STUDY)
    code, text, said = call("data", "describe", "study.yaml")
    assert code == 0
    rows = [line.split() for line in text.splitlines()]
    assert ["train", "defect", "kräftig", "gekratzt", "5", "5"] in rows
    assert ["leak", "warn", "1", "same", "pixels", "in", "two", "splits:", "test/good/another", "name.bmp"] in rows
    assert ["left", "out", "warn", "2", "files", "ending", "in", ".txt"] in rows
    sizes = next(line for line in text.splitlines() if line.startswith("sizes"))
    assert "12x12 to 30x20 pixels, median 12x12; 15 have a side under data.image_size 16 and are enlarged" in sizes
    assert "17 images, data digest" in said
    assert "5 pictures with a problem, by name: --show problems" in said
    code, text, _ = call("data", "describe", "study.yaml", "--show", "problems", "--format", "csv")
    assert code == 0
    assert text.splitlines()[1].startswith('leak,test/good/another name.bmp,test,0,"the same pixels as train')
    code, text, _ = call("data", "describe", "study.yaml", "--show", "checks", "--images", "4", "--format", "md")
    assert "| looked at | warn | 4 | a sample of 17: copies of the others stay unseen; --images 0 = all |" in text
