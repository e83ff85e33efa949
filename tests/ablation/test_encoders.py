"""Export and scoring of files through the command line; the encoder is real, its trial is written by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ablation.cli import main
from ablation.store import StudyStore
from tests.integration.studies import ablation
from trainers.backbones import build_backbone, timm_model
from trainers.data.views import Normalization
from trainers.export import load_encoder, save_encoder

KEY = "simclr-resnet18-p0.1-s0-00000000"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of one finished trial, and pictures: dark noise, one with bright stripes, one broken."""
    root = tmp_path_factory.mktemp("place")
    study = StudyStore(root / "studies" / "demo")
    cell = {"method": "simclr", "backbone": "resnet18", "imbalance": 0.1, "seed": 0}
    study.write_plan({"trials": [{"key": KEY, **cell}]})
    study.write_trial(KEY, {"key": KEY, "config": {"method": "simclr", "imbalance": 0.1}})
    study.write_result(KEY, {"metrics": {"probe/auroc": 0.75}, "provenance": {"num_train": 64, "data_digest": "abc"}})
    save_encoder(study.trial_dir(KEY) / "encoder.safetensors", build_backbone("resnet18", 32), Normalization())
    pixels = np.random.default_rng(0)
    (root / "photos").mkdir()
    for number in range(8):
        image = pixels.integers(0, 40, (40, 30, 3), dtype=np.uint8)
        if number == 5:
            image[::2] = 255
        Image.fromarray(image).save(root / "photos" / f"{number}.png")
    (root / "photos" / "broken.jpg").write_bytes(b"no picture")
    return root


def test_scores_of_files_with_the_odd_one_first_and_the_broken_one_named(place: Path) -> None:
    done = ablation(place, "score", "demo", KEY, "photos", "--out", "scores.csv")
    assert done.returncode == 0, done.stderr
    assert "skipped: photos/broken.jpg: cannot be decoded" in done.stderr
    frame = pd.read_csv(place / done.stdout.strip())
    assert len(frame) == 9
    assert frame.loc[frame["score"].idxmax(), "path"] == "photos/5.png"
    assert np.isnan(frame.set_index("path").loc["photos/broken.jpg", "score"])
    two = ("photos/5.png", "photos/6.png")
    both = ablation(place, "score", "demo", KEY, *two, "--reference", "photos", "--format", "json")
    odd, usual = (row["score"] for row in json.loads(both.stdout))
    assert odd > usual > 0.01  # no image is its own reference
    assert "skipped: photos/broken.jpg" in both.stderr


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (("demo", KEY, "nowhere"), 2, "nowhere: no such file or folder"),
    (("demo", KEY, "studies"), 2, "no images"),
    (("demo", KEY, "photos/broken.jpg"), 2, "none of 1 image(s) can be decoded"),
    (("demo", KEY, "photos/5.png"), 2, "give mostly normal images with --reference"),
    (("demo", KEY, "photos", "--reference", "photos"), 2, "only the images that are to be scored"),
    (("demo", KEY, "photos/5.png", "--reference", "photos/broken.jpg"), 2, "no reference image can be decoded"),
    (("demo", KEY, "photos", "--out", "gone/scores.csv"), 2, "in a folder that exists"),
    (("demo", KEY[:-1], "photos"), 4, f"did you mean '{KEY}'"),
])
def test_what_cannot_be_scored_is_one_line(place: Path, arguments: tuple[str, ...], code: int, message: str,
                                           monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process: starting eight that import torch would take half a minute."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("ABLATION_STORE", str(place / "studies"))
    monkeypatch.setattr(sys, "argv", ["ablation", "score", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    said = capsys.readouterr().err
    assert message in " ".join(said.replace("│", " ").split())
    assert "Traceback" not in said


def test_export_is_a_timm_checkpoint_with_a_card_that_runs(place: Path) -> None:
    done = ablation(place, "export", "demo", KEY, "--out", "model")
    assert done.returncode == 0, done.stderr
    folder = place / done.stdout.strip()
    model = timm_model("resnet18", 32)
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    encoder = load_encoder(folder / "model.safetensors")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = model.eval()(Normalization()(images / 255))
    torch.testing.assert_close(encoder(images), expected, rtol=1e-4, atol=1e-5)
    assert ablation(place, "export", "demo", KEY, "--out", "model").returncode == 0  # again
    (place / "README.md").write_text("mine")
    refused = ablation(place, "export", "demo", KEY, "--out", ".")
    assert refused.returncode == 2
    assert (place / "README.md").read_text() == "mine"
    card = (folder / "README.md").read_text()
    assert "| probe/auroc | 0.7500 |" in card
    code = card.split("```python\n")[1].split("```")[0]
    ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
