"""``ablation score``: images of any number, by probe and by distance; what is broken is named and left out."""

from __future__ import annotations

import io
import json
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import ablation as package
from ablation import image_scoring
from ablation.cli import main
from ablation.image_lists import Listed
from ablation.image_scoring import AHEAD, BATCH, probe_scores
from tests.ablation.conftest import TrainedTrial


@pytest.fixture(scope="module")
def place(trained: TrainedTrial) -> Path:
    """The trained trial's store beside pictures: dark noise, one with bright stripes, one broken."""
    photos = trained.root / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(0)
    for number in range(8):
        image = pixels.integers(0, 40, (40, 30, 3), dtype=np.uint8)
        if number == 5:
            image[::2] = 255
        Image.fromarray(image).save(photos / f"{number}.png")
    (photos / "broken.jpg").write_bytes(b"no picture")
    return trained.root


class Command:
    """The command line in this process: starting one that imports torch takes seconds."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *words: str) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["ablation", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self.capsys.readouterr()
        assert "Traceback" not in said.err
        return int(ended.value.code or 0), said.out, " ".join(said.err.replace("│", " ").split())


@pytest.fixture
def command(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(place)
    monkeypatch.setenv("ABLATION_STORE", str(place / "studies"))
    return Command(capsys, monkeypatch)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json"])
def test_a_trial_scores_files_and_the_broken_one_is_left_out(
        command: Command, trained: TrainedTrial, suffix: str) -> None:
    code, out, err = command("score", trained.key, "photos", "pictures/val", "--out", f"scores.{suffix}")
    assert code == 0, err
    assert out == f"scores.{suffix}\n"
    assert "skipped: photos/broken.jpg: cannot be decoded" in err
    assert "warning: 1 of 33 images cannot be decoded and are left out" in err
    read = {"parquet": pd.read_parquet, "csv": pd.read_csv, "json": pd.read_json}[suffix]
    frame = read(trained.root / f"scores.{suffix}")
    assert list(frame.columns) == ["path", "score", "defect", "threshold"]
    assert len(frame) == 32
    assert frame["defect"].dtype == bool
    here = frame[frame["path"].str.startswith("pictures")]
    assert trained.apart(here.assign(path=here["path"].map(lambda path: str(trained.root / path)))) < 1e-5


def test_distances_find_the_odd_one_and_no_image_is_its_own_reference(command: Command, trained: TrainedTrial) -> None:
    code, out, err = command("score", "parts", trained.key, "photos", "--by", "distance", "--format", "json")
    assert code == 0, err
    frame = pd.DataFrame(json.loads(out))
    assert list(frame.columns) == ["path", "score"]
    assert frame.loc[frame["score"].idxmax(), "path"] == "photos/5.png"
    code, out, err = command("score", trained.key, "photos/5.png", "photos/6.png", "--reference", "photos",
                             "--format", "json")
    odd, usual = (row["score"] for row in json.loads(out))
    assert odd > usual > 0
    assert "skipped: photos/broken.jpg" in err


@pytest.mark.parametrize(("words", "code", "message"), [
    (("KEY", "photos/broken.jpg"), 2, "photos/broken.jpg: cannot be decoded"),
    (("KEY",), 2, "no images are named after the model"),
    (("parts", "KEY"), 2, "no images are named after the model"),
    (("KEY", "photos/5.png", "--by", "distance"), 2, "give mostly normal images with --reference"),
    (("KEY", "photos", "--reference", "photos"), 2, "only the images that are to be scored"),
    (("KEY", "photos/5.png", "--reference", "photos/broken.jpg"), 2, "none of 1 image(s) can be decoded"),
    (("KEY", "photos", "--by", "probe", "--reference", "photos"), 2, "--reference is for --by distance"),
    (("KEY", "photos", "--out", "gone/scores.csv"), 2, "in a folder that exists"),
    (("KEY", "photos", "--out", "scores.txt"), 2, "a .parquet, .csv, .json file"),
    (("KEY", "photos", "--threshold", "1.5"), 2, "has f1, f2, deployment; give one of these or a number"),
    (("simclr", "photos"), 4, "no model 'simclr'"),
    (("parts", "KEYS", "photos"), 4, "did you mean 'KEY'"),
])
def test_what_cannot_be_scored_is_one_line(command: Command, trained: TrainedTrial, words: tuple[str, ...], code: int,
                                           message: str) -> None:
    ended, out, err = command("score", *(word.replace("KEY", trained.key) for word in words))
    assert ended == code, err
    assert message.replace("KEY", trained.key) in err
    assert out == ""


def test_a_key_in_two_studies_needs_its_study(command: Command, trained: TrainedTrial) -> None:
    copy = shutil.copytree(trained.root / "studies" / "parts", trained.root / "studies" / "twin")
    try:
        code, _, err = command("score", trained.key, "photos")
        assert code == 4
        assert f"is a trial of parts, twin: put the study before it, parts {trained.key}" in err
        assert command("score", "twin", trained.key, "photos/5.png")[0] == 0
    finally:
        shutil.rmtree(copy)


def test_images_are_forgotten_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, no more are decoded than are about to be scored."""
    lock, held, most = threading.Lock(), 0, 0

    def decode(path: Path, side: int) -> tuple[np.ndarray, str]:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return np.zeros((3, side, side), np.uint8), ""

    class Zero:
        input_size, threshold = 4, 0.5

        def scores(self, images: np.ndarray) -> np.ndarray:
            nonlocal held
            with lock:
                held -= len(images)
            return np.zeros(len(images), np.float32)

    monkeypatch.setattr(image_scoring, "_decode", decode)
    frame = probe_scores(Zero(), [Listed(str(number), Path()) for number in range(20 * BATCH + 1)], print)
    assert len(frame) == 20 * BATCH + 1
    assert most <= (AHEAD + 1) * BATCH


def test_progress_is_lines_without_a_terminal_and_a_bar_on_one(monkeypatch: pytest.MonkeyPatch,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    from ablation import progress

    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with progress.progress("scoring", 4) as advance:
        advance(1)
        advance(3)
    assert capsys.readouterr().err.startswith("scoring: 1/4 images, about ")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    monkeypatch.setattr(stream, "isatty", lambda: True)
    with progress.progress("scoring", 4) as advance:
        advance(2)
    assert "2/4" in stream.getvalue()


def test_python_scores_as_the_command_does(trained: TrainedTrial) -> None:
    model = package.load_model(trained.key, store=trained.root / "studies")
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 18, 18), dtype=np.uint8)
    np.testing.assert_array_equal(package.score(model, images), model.scores(images))
    with pytest.raises(ValueError, match=r"distances need results\.encoder"):
        package.score(model, images, images)
